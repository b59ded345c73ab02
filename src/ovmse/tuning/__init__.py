"""A fair search for settings: the same number of trials, of the same length, on the same seeds, for every method."""
