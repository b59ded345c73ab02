"""A run's directory on disk: its files, its checkpoints, its configuration, and whether its code is trusted."""
