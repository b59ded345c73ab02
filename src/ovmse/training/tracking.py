"""A tracker follows a run (`--log`) in a thread of its own: training never waits for it, and never ends with it."""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from ovmse.core.literals import TrackerName
from ovmse.core.settings import flatten
from ovmse.system import files
from ovmse.training.trackers import SINKS, Logged, Sink, Tracked, logged

FOLDER = "trackers"
CLOSING_SECONDS = 30.0
"""The longest that the end of a run waits for what is still to be sent."""


class Sent(TypedDict):
    """What `trackers/NAME.json` in a run's directory says: how many rows were sent, and the tracker's run per seed."""

    rows: int
    runs: dict[str, str]


class Tracker:
    """Sends each row of a run's metrics to one tracker, once: a resumed run goes on in the same ones of its runs, and
    rows that it computes again are left out. A tracker that fails is left alone, with one warning."""

    def __init__(
        self,
        name: TrackerName,
        out: Path,
        config: dict[str, Any],
        say: Callable[[str], None],
        closing_seconds: float = CLOSING_SECONDS,
    ):
        """Begin to follow the run in `out`. config: its config.json. say: prints a line."""
        self.name, self.out, self.config, self.say = name, out, flatten(config), say
        self.closing_seconds = closing_seconds
        self.file = files.make_folder(out / FOLDER) / f"{name}.json"
        there: Sent | None = files.read_json(self.file, Sent | None)
        self.sent = there or Sent(rows=0, runs={})
        self.queued, self.warned = self.sent["rows"], False
        self.waiting: queue.SimpleQueue[list[tuple[int, Logged]] | bool] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._follow, name=f"ovmse-{name}", daemon=True)
        self.thread.start()

    def tell(self, rows: Sequence[dict[str, Any]]) -> None:
        """New rows were written. rows: all of the run so far."""
        seeds = [row["seed"] for row in rows]
        new = range(self.queued, len(rows))
        self.waiting.put([(seeds[i], logged(rows[i], seeds[:i].count(seeds[i]))) for i in new])
        self.queued += len(new)

    def close(self, ended: bool) -> None:
        """Nothing more comes, and what is waiting is sent. ended: the run did not stop or fail."""
        self.waiting.put(ended)
        self.thread.join(self.closing_seconds)
        if self.thread.is_alive():
            self._warn(f"still busy {self.closing_seconds:.0f} s after the last row")

    def _follow(self) -> None:
        """The thread: send what comes, until it is told whether the run ended."""
        sinks: dict[int, Sink] = {}
        ended = False
        try:
            while not isinstance(rows := self.waiting.get(), bool):
                try:
                    for seed, row in rows:
                        if seed not in sinks:
                            sinks[seed] = self._open(seed)
                        sinks[seed].log(row)
                        self.sent["rows"] += 1
                finally:
                    files.write_json(self.file, self.sent)
            ended = rows
        except BaseException as error:  # whatever a client raises, SystemExit too
            self._warn(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        for sink in sinks.values():
            with contextlib.suppress(Exception):
                sink.close(ended)

    def _open(self, seed: int) -> Sink:
        sink = SINKS[self.name](Tracked(self.out, seed, self.sent["runs"].get(str(seed)), self.config))
        self.sent["runs"][str(seed)] = sink.run_id
        return sink

    def _warn(self, why: str) -> None:
        if not self.warned:
            self.say(f"warning: --log {self.name} has stopped; the run goes on without it. {why}")
        self.warned = True
