"""Arrays in NumPy's .npz files."""
