"""`isocline explore`: a local page on which to play with trained models."""
