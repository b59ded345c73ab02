"""Speed and memory, against the machine's own ceilings: ``python -m benchmarks``."""
