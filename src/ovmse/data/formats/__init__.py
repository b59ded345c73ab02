"""Formats that logs come in: a reader for each, and writers to export to."""
