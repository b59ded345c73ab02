"""Logged play: the dataset format, what comes in and goes out, the checks of its values, and what it looks like."""

from ovmse.data.doctor import Flat
from ovmse.data.exporting import export_dataset
from ovmse.data.importing import Imported, import_dataset
from ovmse.data.logged import Logged, Rules, Source
from ovmse.data.recording import record
from ovmse.data.store import Dataset, Metadata, pack
from ovmse.data.writer import DatasetWriter

__all__ = [
    "Dataset",
    "DatasetWriter",
    "Flat",
    "Imported",
    "Logged",
    "Metadata",
    "Rules",
    "Source",
    "export_dataset",
    "import_dataset",
    "pack",
    "record",
]
