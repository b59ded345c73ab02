"""The dataset doctor: what is wrong with a dataset, what is in it, who played it, and how to learn from it."""
