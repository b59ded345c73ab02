"""Checkpoints of a run: written whole or not at all, verified when they are read, the newest kept.

``checkpoints/000007/`` holds everything that a run carries on: ``seed-N.safetensors`` (networks, optimiser, replay and
what is remembered beside it, random state), ``metrics.jsonl`` (all rows so far), ``about.json`` (where the run is, and
what it ran on), and ``SHA256SUMS`` of them all, which ``sha256sum -c`` reads, too.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec

from ovmse.config import Config
from ovmse.core.errors import Unwritable, UserError, number_of, typed_command
from ovmse.core.settings import differences
from ovmse.runs.metrics_file import check_rows
from ovmse.runs.saved_config import filled
from ovmse.system import files
from ovmse.system.clock import SavedClock

FOLDER, SUMS, ABOUT, ROWS = "checkpoints", "SHA256SUMS", "about.json", "metrics.jsonl"
MARK = "checkpointed"
"""Says that an unfinished run has written a checkpoint, beside the directory of them, which may be lost."""
HANDOVER = "-handover"
"""Ends the name of the checkpoint that is written at the handover and kept beside the newest ones."""
FORMAT = 3
NAME = re.compile(r"\d{6,}(-handover)?")
HALF_WRITTEN = re.compile(r"\.[\w-]+\.(json|jsonl|safetensors)\.\d+")
SMALL = 256_000_000
"""Bytes of a last checkpoint that stays when a run ends without being asked for."""
HALF_CHECKPOINT = re.compile(r"\.\d{6,}(-handover)?\.\d+")


Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class About(TypedDict):
    """What `about.json` says of a checkpoint: where the run is, which run it is, and what it ran on."""

    phase: Literal["offline", "online", "round"]
    rows_in_use: list[Count]
    experience: list[Count]
    clock: SavedClock
    ran_on: dict[str, Any]
    run: dict[str, Any]


FREE = {
    "type", "out", "data", "pretrained", "checkpoint_minutes", "checkpoints_kept", "env_seconds", "env_restarts",
    "loss_limit", "allow_version_mismatch", "schedule_env_steps", "keep_checkpoint", "log", "fqe_updates",
    "ray_address",
}  # fmt: skip
"""Settings that may change while a run goes on: where things lie, who plays, when it saves, and when it gives up."""
BUDGETS = {"offline_updates", "online_env_steps"}
"""Settings that may grow."""


class Inexact(UserError):
    """A run that could go on, but not bit for bit."""


class OtherVersion(UserError):
    """A checkpoint that is whole, in a format that this version does not read."""


class Saved(NamedTuple):
    """A checkpoint that was read and found whole. about: its JSON; rows: the metrics so far."""

    path: Path
    about: dict[str, Any]
    rows: list[dict[str, Any]]


def write(
    out: Path,
    about: dict[str, Any],
    rows: list[dict[str, Any]],
    seeds: Callable[[Path], None],
    *,
    keep: int,
    handover: bool = False,
) -> Path:
    """Write a checkpoint of the run in `out`, then remove all but the newest `keep` and the handover's.

    seeds: writes the seeds' files into a directory. Raises `Unwritable` where that can't be; what was there stays.
    """
    folder = out / FOLDER
    number = max((_number(path) for path in names(folder)), default=0) + 1
    final = folder / f"{number:06d}{HANDOVER if handover else ''}"
    try:
        if not (out / "config.json").exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(out))
        files.make_folder(folder)  # no parents: where the run's directory has vanished, nothing may take its place
        with files.replacing(final) as part:
            part.mkdir()
            seeds(part)
            files.write_json(part / ABOUT, {"format": FORMAT, **about})
            files.write_json_lines(part / ROWS, rows)
            lines = [f"{checksum(path)}  {path.name}\n" for path in sorted(part.iterdir())]
            (part / SUMS).write_text("".join(lines))
        os.close(files.regular(out / MARK, os.O_WRONLY | os.O_CREAT))  # from here on, to have none is a loss
        files.sync(out)
    except OSError as error:
        there = names(folder) if folder.is_dir() else []
        last = f"the last checkpoint, {there[-1]}, is intact" if there else "no checkpoint was written before"
        raise Unwritable(
            f"{final} can't be written: {error.strerror or error}; {last}. When that is mended, go on with: "
            + typed_command("train", "--resume", out)
        ) from error
    prune(folder, keep)
    return final


def drop_damaged(out: Path, found: Saved) -> None:
    """Remove the checkpoints after the one that was found whole."""
    for path in names(out / FOLDER):
        if _number(path) > _number(found.path):
            shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the handover's."""
    for path in [path for path in names(folder) if not path.name.endswith(HANDOVER)][:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def names(folder: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first, unread."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()), key=_number)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def newest(out: Path, say: Callable[[str], None]) -> Saved | None:
    """The newest checkpoint that is whole; `say` tells of damaged ones. None where none was ever written.

    Raises `UserError` where there are checkpoints and all are damaged.
    """
    there, foreign = names(out / FOLDER), 0
    for path in reversed(there):
        try:
            return read(path)
        except UserError as error:
            foreign += isinstance(error, OtherVersion)
            say(f"{error} Looking for an earlier one.")
    if there and foreign == len(there):
        raise UserError(
            f"{out}: its checkpoints were written by another version of ovmse. Go on with that version, or begin again "
            "in another directory."
        )
    if there:
        raise UserError(f"{out}: all of its checkpoints are damaged. Begin again in another directory.")
    return None


def read(path: Path) -> Saved:
    """A checkpoint, every byte of it verified. Raises `UserError` where one is not as written."""
    try:
        verify(path)
        about, rows = files.read_json(path / ABOUT, dict[str, Any]), files.read_json_lines(path / ROWS)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"checkpoint {path} is damaged: {error}.") from error
    if about is None or about.get("format") != FORMAT:
        raise OtherVersion(f"checkpoint {path} was written by another version of ovmse.")
    files.as_type(about, About, f"checkpoint {path} is damaged: {ABOUT}")
    return Saved(path, about, rows)


def verify(path: Path) -> None:
    """Raise `UserError` unless a checkpoint has exactly the files that were written, and each has its checksum."""
    text = (path / SUMS).read_bytes().decode("ascii")
    sums = {name: expected for expected, name in re.findall(r"([0-9a-f]{64})  ([^/\n]+)\n", text)}
    if "".join(f"{expected}  {name}\n" for name, expected in sums.items()) != text:
        raise UserError(f"checkpoint {path} is damaged: {SUMS} is cut off or can't be read.")
    there = {file.name for file in path.iterdir()} - {SUMS}
    if not sums or set(sums) != there:
        raise UserError(f"checkpoint {path} is damaged: its files are not those in {SUMS}.")
    for name, expected in sums.items():
        if checksum(path / name) != expected:
            raise UserError(f"checkpoint {path} is damaged: {name} is not what was written.")


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tidy(out: Path) -> None:
    """Remove what a process that was killed left half-written in a run's directory, and a finished run's checkpoints
    but the one that its summary names; nothing in a directory that is no run's. Only for the holder of the lock."""
    if not is_run(out):
        return
    for path in (*out.glob(".*.*"), *(out / "teams").glob(".*.*"), *(out / "trackers").glob(".*.*")):
        if HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for path in (out / FOLDER).glob(".*.*"):
        if HALF_CHECKPOINT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    if has_ended(out):
        (out / MARK).unlink(missing_ok=True)
        kept = files.read_json(out / "summary.json", dict[str, Any]).get("checkpoint")
        for path in [path for path in names(out / FOLDER) if path.name != kept] if kept else [out / FOLDER]:
            shutil.rmtree(path, ignore_errors=True)


def to_keep(path: Path, however_large: bool, small: int = SMALL) -> str | None:
    """The name of a run's last checkpoint, as its summary tells that it is kept; None where it is not.

    small: bytes up to which it is kept in any case.
    """
    size = sum(file.stat().st_size for file in path.iterdir())
    return path.name if however_large or size <= small else None


def is_run(out: Path) -> bool:
    """Whether a directory is a run's."""
    found = files.read_json(out / "config.json")
    return isinstance(found, dict) and found.get("type") == "Config"


def is_unfinished(out: Path) -> bool:
    """Whether a directory holds a run that began and did not end."""
    return is_run(out) and not has_ended(out)


def has_ended(out: Path) -> bool:
    """Whether a directory holds what the end of a run leaves."""
    return (out / "summary.json").exists()


def settings_of(described: dict[str, Any]) -> dict[str, Any]:
    """Which run it is: all settings of a described configuration but those that may change while it goes on."""
    told = filled(described)
    told["workers"] = 1 if told["workers"] == 1 else 2  # how many they are changes nothing, if only there are any
    return {name: value for name, value in told.items() if name in Config.__dataclass_fields__.keys() - FREE}


def goes_further(there: dict[str, Any], described: dict[str, Any]) -> bool:
    """Whether a run that goes on by a described configuration does more than by the one that it had `there`.

    Raises `UserError` where a budget is smaller, or another setting differs that may not.
    """
    there, here = settings_of(there), settings_of(described)
    budgets = {name: (there.pop(name), here.pop(name)) for name in BUDGETS if isinstance(there.get(name), int)}
    if differ := differences(there, here):
        raise UserError("; ".join(differ))
    if less := [f"{name} {old} there, {new} here" for name, (old, new) in sorted(budgets.items()) if new < old]:
        raise UserError(f"{'; '.join(less)}: it can be more, not less")
    return any(new > old for old, new in budgets.values())


def check_there(out: Path) -> None:
    """Raise `UserError` where a run has lost its checkpoints: an unfinished one begins with their directory."""
    if has_ended(out) and not names(out / FOLDER):
        raise UserError(
            f"{out} kept no checkpoint when it ended, so it can't be trained for longer: its last one was large (see "
            f"--keep-checkpoint) or was removed. Its offline phase can be taken over: "
            + typed_command("train", "--pretrained", out)
        )
    lost = (out / MARK).exists() and not names(out / FOLDER)
    if lost or not (out / FOLDER).is_dir():
        gone = "empty" if lost and (out / FOLDER).is_dir() else "missing"
        raise UserError(
            f"{out / FOLDER} is {gone}: the unfinished run in {out} can't go on without it, and would lose its "
            "metrics if it began anew. Put it back, or begin again in another directory."
        )


def check_own(saved: Saved, described: dict[str, Any]) -> None:
    """Raise `UserError` where a checkpoint is another run's than the one whose configuration is described."""
    try:
        goes_further(saved.about["run"], described)
    except UserError as error:
        raise UserError(f"{saved.path} is another run's checkpoint: {error}. Put this run's own there.") from error


def check_content(saved: Saved, seeds: int) -> None:
    """Raise `UserError` unless a checkpoint's rows can be used, and what it counts of each seed is there for all."""
    check_rows(saved.path / ROWS, dict(enumerate(saved.rows, start=1)))
    held, experience = saved.about["rows_in_use"], saved.about["experience"]
    if len(held) != seeds * (saved.about["phase"] == "online") or len(experience) not in (0, seeds):
        raise UserError(f"{saved.path} is damaged: {ABOUT} is not of {number_of(seeds, 'seed')}.")


def check_same(saved: Saved, now: dict[str, Any], allow: bool, say: Callable[[str], None]) -> None:
    """Raise `Inexact` where a run would not go on bit for bit, unless that is allowed; then `say` what differs."""
    differ = "; ".join(differences(saved.about["ran_on"], now))
    if differ and not allow:
        raise Inexact(
            f"{saved.path} can't be gone on with bit for bit: {differ}. To go on all the same: --allow-inexact-resume."
        )
    if differ:
        say(f"not bit for bit as it would have been: {differ}")
