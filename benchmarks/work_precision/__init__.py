"""Error against work, beside SciPy's methods: ``python -m benchmarks.work_precision``."""
