"""Minari's datasets of a team."""
