"""Pages, tables and figures on finished runs."""
