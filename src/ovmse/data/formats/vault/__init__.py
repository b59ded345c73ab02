"""Vaults, the datasets of OG-MARL."""
