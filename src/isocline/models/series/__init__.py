"""Models of irregular series: latent ODEs, recurrent networks, events. See ``isocline.models`` for the names."""
