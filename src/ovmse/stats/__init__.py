"""Statistics of scores: estimates with intervals, aggregates over tasks, rankings."""
