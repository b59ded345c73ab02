"""Writing a dataset episode by episode: checked at the door, safe from a crash, in constant memory."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from ovmse.core.errors import UserError, number_of
from ovmse.core.types import EnvSpec, Flat
from ovmse.data.dataset import describe, plain_settings, today
from ovmse.data.flat import joined
from ovmse.data.formats.episodes import check_actions, one
from ovmse.data.journal import Journal
from ovmse.data.raw_episode import AssumptionLog, ImportRules, RawEpisode, complete_episode
from ovmse.data.schema import KINDS, NAMED, Metadata
from ovmse.data.validation import conform
from ovmse.data.zarr_files import in_memory, typed, write_whole
from ovmse.system.files import check_free

UNLIMITED = 2**31 - 1
ABOUT = ("behaviour", "quality", "seed", "git_revision", "command", "created", "source", "recipe", *NAMED)
"""What of `Metadata` is told to the writer; it knows the rest by the episodes."""


class DiskError(UserError):
    """The disk refused: no fault of the episode that was to be written."""


class DatasetWriter:
    """Writes a dataset to `path`, one episode after another::

        with DatasetWriter("warehouse-logs", name="warehouse", n_actions=4) as writer:
            writer.add_episode(obs=obs, action=action, reward=reward, terminal=True)

    The dataset appears when the writer is closed. Until then its episodes lie beside it, in ``.NAME.unfinished``; after
    a crash, or an exception within ``with``, go on with ``resume=True``: all that were added are there. (A power
    failure may cost those that the system had not written yet; it is told to every five seconds of writing.)

    spec: the environment; a limit of `UNLIMITED` becomes the longest episode. Without it the sizes are those of the
    first episode, the limit is `rules.time_limit` or the longest episode, the name is `name`, and the game can be won
    if any episode says so.
    n_actions: A, needed where there are neither `spec` nor masks.
    rules: what to supply where an episode is silent; what was supplied is kept in the metadata.
    keep_unfinished: false for episodes that can be had again: nothing of an earlier attempt is gone on with.
    kinds: the kinds of agents where there is no `spec` (see `EnvSpec`).
    about: further attributes of `Metadata`, some of `ABOUT`.

    Raises `UserError` where `path` is in use, unfinished without `resume`, or being written by another process.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        spec: EnvSpec | None = None,
        name: str = "",
        n_actions: int | None = None,
        rules: ImportRules | None = None,
        resume: bool = False,
        keep_unfinished: bool = True,
        kinds: tuple[int, ...] = (),
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path).resolve()
        check_free(self.path)
        self.rules = rules or ImportRules()
        self.about = _about({"behaviour": "not told", **(about or {})})
        self._spec = None if spec is None else spec._replace(settings=plain_settings(spec.settings))
        self._kinds = kinds
        self._name, self._n_actions = name or self.path.name, spec.n_actions if spec else n_actions
        check_actions(str(self.path), self._n_actions)
        folder = self.path.parent / f".{self.path.name}.{'unfinished' if keep_unfinished else 'importing'}"
        self._spool = Journal(folder, anew=not keep_unfinished)
        if not resume and self._spool.spec is not None:
            self.stop()
            raise UserError(
                f"{self.path}: an unfinished dataset of {number_of(self._spool.episodes, 'episode')} lies in {folder}. "
                "Go on with it (resume=True), or remove that folder."
            )
        if self._spec is not None and self._spool.spec not in (None, self._spec):
            self.stop()
            raise UserError(f"{folder}: expected play of {self._spec}, got {self._spool.spec}. Remove that folder.")

    @property
    def episodes(self) -> int:
        """Episodes written so far, those of before a resumption included."""
        return self._spool.episodes

    def add_episode(
        self,
        *,
        obs: Any,
        action: Any,
        reward: Any,
        terminal: Any,
        state: Any = None,
        avail: Any = None,
        won: Any = None,
    ) -> None:
        """Check one episode and write it.

        obs (T+1, N, O): what each agent saw, the row after the last step included (T rows where it is not known);
        action (T, N); reward (T,) or per agent (T, N); terminal: whether the task ended with the last step (or (T,)
        bool) — false where a time limit cut it; state (T+1, S), avail (T+1, N, A) and won: None where not known.

        Raises `UserError`, and writes nothing of the episode, where it cannot be used.
        """
        given = {"obs": obs, "action": action, "reward": reward, "terminal": terminal, "state": state, "avail": avail}
        self.add([one(f"{self.path}: episode {self.episodes}", given | {"won": won})])

    def add(self, episodes: Sequence[RawEpisode], first: int | None = None) -> None:
        """Check episodes of a log and write them: all of them, or none where one cannot be used (`UserError`).

        first: the number of the first of them in the log, where that is not the number of episodes written so far.
        """
        if not self._spool.is_open:
            raise UserError(f"{self.path}: this writer is closed.")
        ledgers = [AssumptionLog() for _ in episodes]
        flat = joined([self._complete(*each) for each in zip(episodes, ledgers, strict=True)])
        spec = self._spool.spec or self._spec or self._spec_of(flat)
        where = episodes[0].where if len(episodes) == 1 else f"{episodes[0].where} and those after it"
        flat = conform(where, spec, flat, self.episodes if first is None else first)
        try:
            if self._spool.spec is None:
                self._spool.begin(spec)
            self._spool.append(flat, [each.won for each in episodes], [list(ledger.made) for ledger in ledgers])
        except OSError as error:
            self.stop()
            raise DiskError(
                f"{self.path}: cannot be written: {error.strerror}. What came before, "
                f"{number_of(self.episodes, 'episode')}, is kept in {self._spool.folder}; go on with "
                "resume=True when there is room."
            ) from error

    def close(self, assumed: Sequence[str] = ()) -> Metadata:
        """Write the dataset to its place and return its metadata; `assumed` goes before the assumptions.

        Raises `UserError` where there is no episode, or the disk is full (then nothing is lost: resume).
        """
        if not self._spool.is_open:
            raise UserError(f"{self.path}: this writer is closed.")
        if not self.episodes or self._spool.spec is None:
            self._spool.remove()
            raise UserError(f"{self.path}: no episode was added, so there is no dataset.")
        records = self._spool.records
        length, won = records["length"].astype(np.int32), records["won"] == 1
        spec = self._spool.spec
        if spec.episode_limit == UNLIMITED:
            limit = max(self.rules.time_limit or 0, int(length.max()))
            settings = {name: limit if value == UNLIMITED else value for name, value in spec.settings.items()}
            spec = spec._replace(episode_limit=limit, settings=settings)
        if self._spec is None:
            spec = spec._replace(has_win=bool((records["won"] >= 0).any()))
        made = self._spool.assumed()
        if spec.has_win and (untold := int((records["won"] < 0).sum())):
            made["not told whether it was won: counted as not won"] = untold
        about = {"quality": "", "seed": None, "git_revision": "", "command": "", "created": today()} | self.about
        lines = AssumptionLog(made, tuple(assumed)).lines(len(length))
        metadata = describe(spec, length, won, self._spool.returns, assumptions=lines, **about)
        ends = Flat(length=length, won=won)  # type: ignore[typeddict-item]
        fields = self._spool.stored() | in_memory(ends)
        metadata = write_whole(self.path, metadata, {field: fields[field] for field in KINDS})
        self._spool.remove()
        return metadata

    def keep(self, episodes: int) -> None:
        """Forget all but the first `episodes` episodes. Raises `UserError` where there are fewer."""
        if episodes > self.episodes:
            raise UserError(f"{self._spool.folder}: expected at least {episodes} whole episodes, got {self.episodes}.")
        self._spool.keep(episodes)

    def sync(self) -> None:
        """Have the disk hold all episodes so far."""
        self._spool.sync()

    def stop(self) -> None:
        """Stop writing; what was added stays unfinished, for ``resume=True``."""
        self._spool.close()

    def discard(self) -> None:
        """Stop writing, and delete what was added."""
        self._spool.remove()

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._spool.is_open:
                self.close()
        finally:
            self.stop()

    def _complete(self, logged: RawEpisode, ledger: AssumptionLog) -> Flat:
        n_actions = self._n_actions or (None if logged.avail is None else int(np.shape(logged.avail)[-1]))
        if n_actions is None:
            raise UserError(f"{logged.where}: without masks, say how many actions an agent has (n_actions).")
        return complete_episode(logged, self.rules, n_actions, ledger)

    def _spec_of(self, flat: Flat) -> EnvSpec:
        (_, n_agents, obs_size), (_, state_size) = flat["obs"].shape, flat["state"].shape
        n_actions = flat["avail"].shape[-1]
        sizes = n_agents, n_actions, obs_size, state_size, UNLIMITED
        return EnvSpec(self._name, "unknown", {}, *sizes, has_win=True, kinds=self._kinds)


def _about(given: dict[str, Any]) -> dict[str, Any]:
    """The attributes of `Metadata` in the types that a dataset is read with. Raises `UserError` for others."""
    if wrong := sorted(set(given) - set(ABOUT)):
        raise UserError(f"about: a writer is told no attributes {wrong}; what it takes: {', '.join(ABOUT)}.")
    hints = get_type_hints(Metadata)
    if isinstance(given.get("seed"), np.integer):
        given["seed"] = int(given["seed"])
    if given.get("recipe") is not None:
        given["recipe"] = plain_settings(given["recipe"])
    return typed("about", {name: hints[name] for name in given}, given)
