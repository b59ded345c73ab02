"""The computer, and nothing of learning: files, locks, signals, clocks, JAX's set-up, provenance, progress."""
