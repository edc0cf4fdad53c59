"""Reproducible experiments behind the `isocline` command: run folders, training, measurements, figures."""
