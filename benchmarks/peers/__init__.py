"""isocline beside torchdiffeq, torchode, diffrax and SciPy: `python -m benchmarks.peers`."""
