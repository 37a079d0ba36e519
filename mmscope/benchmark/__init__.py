"""Speed and memory, measured fairly; used by ``tools/benchmark.py``."""
