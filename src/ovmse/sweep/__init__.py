"""A grid of training runs on one machine: one process per core, shared offline phases, one table."""
