"""Logged play on disk: the dataset format, the checks of its values, and what it looks like."""

from ovmse.data.doctor import Flat
from ovmse.data.store import Dataset, Metadata, pack

__all__ = ["Dataset", "Flat", "Metadata", "pack"]
