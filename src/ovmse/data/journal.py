"""An unfinished dataset on disk: whole episodes are only ever appended, and none is lost by a crash.

A folder with one file of raw values per field, ``sizes.json``, ``assumptions`` (one per line) and ``records``: the
length of every episode, whether it was won, which assumptions it needed, and a checksum of all of it. An episode counts
from the moment that its record is whole; what lies behind the last whole record is cut off on opening.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Flat, action_dtype
from ovmse.data.dataset import episode_returns
from ovmse.data.schema import KINDS, ROWS, STEPS, shapes, starts
from ovmse.data.zarr_files import Stored
from ovmse.system.files import atomic_path, make_folder, regular
from ovmse.system.spec_json import as_spec

VALUES = (*ROWS, *STEPS)
RECORD = np.dtype([("length", "<i4"), ("won", "i1"), ("assumed", "<u8"), ("check", "<u4")])
"""won: 1, 0, or -1 where it is not known; assumed: one bit per line of ``assumptions``."""
SECONDS_BETWEEN_SYNCS = 5.0


class Journal:
    """The unfinished dataset in `folder`, opened for one process alone; `anew` forgets what it holds.

    Raises `UserError` where it cannot be opened, another process has it open, or it is damaged in its ``sizes.json``.
    """

    def __init__(self, folder: Path, anew: bool = False) -> None:
        self.folder = folder
        self.spec: EnvSpec | None = None
        self.assumptions: list[str] = []
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self.episodes = 0
        self._files: dict[str, BinaryIO] = {}
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            make_folder(folder)
            for name in (*VALUES, "assumptions", "records"):
                self._files[name] = open(folder / name, "ab+", buffering=0, opener=regular)  # noqa: SIM115
            fcntl.flock(self._files["records"], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            busy = isinstance(error, BlockingIOError)
            reason = "another process is writing there" if busy else f"cannot be written: {error.strerror}"
            raise UserError(f"{folder}: {reason}. Choose another place.") from error
        self._synced = time.monotonic()
        try:
            if anew:
                (folder / "sizes.json").unlink(missing_ok=True)
            self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        return bool(self._files)

    @property
    def records(self) -> np.ndarray:
        """All episodes' records, dtype `RECORD`, shape (E,)."""
        return np.concatenate([np.zeros(0, RECORD), *(records for records, _ in self._parts)])

    @property
    def returns(self) -> np.ndarray:
        """All episodes' undiscounted returns, float64, shape (E,)."""
        return np.concatenate([np.zeros(0), *(returns for _, returns in self._parts)])

    def begin(self, spec: EnvSpec) -> None:
        """Fix the sizes, before the first episode."""
        self.spec = spec
        with atomic_path(self.folder / "sizes.json") as partial:
            partial.write_text(json.dumps(spec.described()))

    def append(self, flat: Flat, won: Sequence[bool | None], assumed: Sequence[Sequence[str]]) -> None:
        """Write whole episodes that were checked before, in the dtypes of `conform`: all of them, or none.

        Raises OSError; after that, or an interrupt, the episodes before are there as if nothing had happened.
        """
        try:
            self._append(flat, won, assumed)
        except BaseException:
            try:
                self.keep(self.episodes)
            except BaseException:
                self.close()  # opening it again cuts off what lies behind
                raise
            raise

    def _append(self, flat: Flat, won: Sequence[bool | None], assumed: Sequence[Sequence[str]]) -> None:
        arrays = {field: np.ascontiguousarray(cast("dict[str, np.ndarray]", flat)[field]) for field in VALUES}
        length = flat["length"]
        records = np.zeros(len(length), RECORD)
        records["length"] = length
        records["won"] = [-1 if w is None else int(w) for w in won]
        records["assumed"] = [sum(1 << self._number(text) for text in texts) for texts in assumed]
        rows, steps = starts(length + 1), starts(length)
        for e, n in enumerate(length.tolist()):
            spans = (arrays[field][_span(field, int(rows[e]), int(steps[e]), n)] for field in VALUES)
            records["check"][e] = checksum(spans, records[e])
        for field in VALUES:
            _write(self._files[field], arrays[field].data)
        _write(self._files["records"], records.tobytes())
        self._count(records, arrays["reward"])
        if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:
            self.sync()

    def _number(self, assumption: str) -> int:
        """The bit of an assumption; a new one is written down first."""
        if assumption not in self.assumptions:
            if len(self.assumptions) == 64:
                raise UserError(f"{self.folder}: more than 64 kinds of assumptions.")
            _write(self._files["assumptions"], (assumption.replace("\n", " ") + "\n").encode())
            self.assumptions.append(assumption)
        return self.assumptions.index(assumption)

    def assumed(self) -> Counter[str]:
        """How many episodes needed each assumption."""
        bits = self.records["assumed"]
        needed = [bits & np.uint64(1 << i) > 0 for i in range(len(self.assumptions))]
        return +Counter({text: int(n.sum()) for text, n in zip(self.assumptions, needed, strict=True)})

    def stored(self) -> dict[str, Stored]:
        """The arrays of `VALUES`, read from the files as they are asked for. Raises `UserError` where one is short."""

        def in_file(field: str) -> Stored:
            shape, dtype = self._layout(field)
            count = steps + (self.episodes if field in ROWS else 0)
            there, wanted = (self.folder / field).stat().st_size, count * self._entry_bytes(field)
            if there != wanted:
                raise UserError(
                    f"{self.folder / field}: expected {wanted} bytes, got {there}. Open it with resume=True."
                )
            return Stored((count, *shape), dtype, lambda part: self._read(field, part.start, part.stop))

        steps = int(self.records["length"].sum(dtype=np.int64))
        return {field: in_file(field) for field in VALUES}

    def keep(self, episodes: int) -> None:
        """Forget all but the first `episodes` episodes."""
        records, returns = self.records[:episodes], self.returns[:episodes]
        self._parts, self.episodes = [(records, returns)], len(records)
        steps = int(records["length"].sum(dtype=np.int64))
        self._files["records"].truncate(episodes * RECORD.itemsize)
        for field in VALUES:
            entry = self._entry_bytes(field) if self.spec else 0
            self._files[field].truncate(entry * (steps + episodes if field in ROWS else steps))

    def sync(self) -> None:
        """Have the disk hold all that was written."""
        for file in self._files.values():
            os.fsync(file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Stop; what was appended stays."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                file.close()
        self._files = {}

    def remove(self) -> None:
        """Stop, and delete the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _count(self, records: np.ndarray, reward: np.ndarray) -> None:
        self._parts.append((records, episode_returns(reward, records["length"])))
        self.episodes += len(records)

    def _recover(self) -> None:
        """Count the whole episodes that are there, and cut off what lies behind them."""
        file = self.folder / "sizes.json"
        if file.exists():
            try:
                self.spec = as_spec(json.loads(file.read_text()), str(file))
                self._entry_bytes("obs")
            except (ValueError, TypeError, RecursionError) as error:
                raise UserError(f"{file}: damaged: {error}. Remove {self.folder} and begin again.") from error
            *lines, _torn = (self.folder / "assumptions").read_bytes().split(b"\n")
            self._files["assumptions"].truncate(sum(len(line) + 1 for line in lines))
            self.assumptions = [line.decode(errors="replace") for line in lines]
            row = step = 0
            raw = (self.folder / "records").read_bytes()
            for record in np.frombuffer(raw[: len(raw) // RECORD.itemsize * RECORD.itemsize], RECORD):
                if (reward := self._whole(record, row, step)) is None:
                    break
                self._count(np.array([record]), reward)
                row, step = row + int(record["length"]) + 1, step + int(record["length"])
        else:
            self._files["assumptions"].truncate(0)
        self.keep(self.episodes)

    def _whole(self, record: np.void, row: int, step: int) -> np.ndarray | None:
        """The rewards of the episode of a record, or None where its bytes are not those that were written."""
        length = int(record["length"])
        if not 0 < length <= (self.folder / "terminal").stat().st_size - step:
            return None
        spans = {field: _span(field, row, step, length) for field in VALUES}
        values = {field: self._read(field, span.start, span.stop) for field, span in spans.items()}
        known = int(record["assumed"]) < 1 << len(self.assumptions)
        return values["reward"] if known and checksum(values.values(), record) == record["check"] else None

    def _layout(self, field: str) -> tuple[tuple[int, ...], np.dtype]:
        assert self.spec is not None
        kind = {"f": np.dtype(np.float32), "b": np.dtype(bool), "iu": action_dtype(self.spec.n_actions)}[KINDS[field]]
        return shapes(self.spec, 0, 0)[field][1:], kind

    def _entry_bytes(self, field: str) -> int:
        shape, dtype = self._layout(field)
        return dtype.itemsize * int(np.prod(shape, dtype=np.int64))

    def _read(self, field: str, first: int, end: int) -> np.ndarray:
        """The entries `first` to `end` of a field; flat and fewer where the file ends before."""
        shape, dtype = self._layout(field)
        entry = self._entry_bytes(field)
        count = (end - first) * (entry // dtype.itemsize)
        values = np.fromfile(self.folder / field, dtype, count, offset=first * entry)
        return values.reshape(-1, *shape) if len(values) == count else values


def checksum(parts: Iterable[np.ndarray], record: np.void) -> int:
    """CRC-32 of the bytes of an episode's arrays, one after the other, and of its record but for the checksum."""
    check = zlib.crc32(record.tobytes()[: -RECORD["check"].itemsize])
    for part in parts:
        check = zlib.crc32(part.data, check)
    return check


def _span(field: str, row: int, step: int, length: int) -> slice:
    return slice(row, row + length + 1) if field in ROWS else slice(step, step + length)


def _write(file: BinaryIO, values: bytes | memoryview) -> None:
    """All of the bytes: one call may write fewer."""
    left = memoryview(values).cast("B")
    while left:
        left = left[file.write(left) :]
