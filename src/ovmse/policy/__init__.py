"""The team that acts without JAX: it acts in NumPy, says what it takes and gives, and leaves as files of its own."""
