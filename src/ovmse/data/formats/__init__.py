"""Formats that logs come in: a folder for each, with a reader, and a writer to export to."""
