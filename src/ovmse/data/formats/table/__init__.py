"""Tables with one row per step and agent: Parquet, CSV, Arrow."""
