"""Makes what comes with LungForge at ``lungforge://NAME``: ``python -m benchmarks.shipped --help``."""
