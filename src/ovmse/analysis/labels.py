"""Names for runs that stand beside each other: by what differs in their methods."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.runs.metrics_file import RunRecord, setting
from ovmse.runs.saved_config import filled

SYMBOLS = {
    "online_target.weight": "λ",
    "explore.epsilon": "ε",
    "offline_loss.alpha": "α",
    "online_loss.alpha": "online α",
    "learner.gamma": "γ",
    "learner.td_lambda": "TD λ",
}
"""What the docs call a setting, by the end of its place in ``config.json``."""
ELSEWHERE = {field.name for field in fields(Config)} - {"learner"} | {"method_value", "env_spec", "type"}
"""What of ``config.json`` is not the method: data, budgets, places. The method's value is looked at by itself."""
DERIVED = ("parts", "online_parts")  # of the method: what its networks consist of follows from its losses and its mixer
Difference = tuple[str, list[Any]]  # a setting's place, and its value in each run


def check_labels(labels: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise `UserError` unless there is one label for each run, distinct within its task. tasks: each run's."""
    if len(labels) != len(tasks):
        raise UserError(f"--labels takes one label for each run: expected {len(tasks)}, got {len(labels)}.")
    if not all(label.strip() for label in labels):
        raise UserError("--labels: a label is empty. Give every run a name.")
    repeated = [label for (label, _), times in Counter(zip(labels, tasks, strict=True)).items() if times > 1]
    if repeated:
        raise UserError(f"--labels: {repeated[0]!r} stands for several runs of one environment. Use distinct labels.")


def labels(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """A short, distinct name for each run: its method, and what differs in it from others of the same method.

    Runs that do not differ in their method are told apart by their environment, their data, or their directory's name.
    """
    names = [_word(setting(r.config, "method")) or r.path.name for r in runs]
    settings = [_settings(r) for r in runs]
    for mine in _repeated(names):
        for i, extra in zip(mine, _extras([settings[i] for i in mine]), strict=True):
            names[i] = ", ".join([names[i], *extra])
    for field in ("env", "data"):
        for mine in _repeated(names):
            words = [_word(setting(runs[i].config, field)) or f"no {field}" for i in mine]
            for i, word in zip(mine, words, strict=True):
                names[i] += f", {word}" if len(set(words)) > 1 else ""
    for mine in _repeated(names):
        for i in mine:
            names[i] += f" ({runs[i].path.name})"
    for mine in _repeated(names):
        for i in mine:
            names[i] += f" #{i + 1}"
    return tuple(names)


def _repeated(names: Sequence[str]) -> list[list[int]]:
    """The positions of each name that occurs more than once."""
    return [[i for i, n in enumerate(names) if n == name] for name, times in Counter(names).items() if times > 1]


def _settings(run: RunRecord) -> dict[str, Any]:
    value = run.config.get("method_value")
    mine = {name: part for name, part in filled(run.config).items() if name not in ELSEWHERE}
    return {**mine, **(value if isinstance(value, Mapping) else {"method": run.config.get("method")})}


def _extras(settings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Of each run, what differs from the value that most runs have; where there is no such value, of all of them."""
    found = list(_differences(settings))
    found = [d for d in found if d[0].split(".")[0] not in DERIVED] or found
    extras: list[list[str]] = [[] for _ in settings]
    for place, values in found:
        words = [_word(value) or "none" for value in values]
        [(usual, times)] = Counter(words).most_common(1)
        for extra, word, value in zip(extras, words, values, strict=True):
            if word != usual or times <= len(words) / 2:
                offline = place == "online_target" and value is None
                extra.append("no online phase" if offline else f"{_symbol(place)} {word}")
    return extras


def _differences(values: Sequence[Any], place: str = "") -> Iterator[Difference]:
    """Where nested settings differ: as deep down as they are of the same type."""
    if not all(isinstance(value, Mapping) and value.get("type") == values[0].get("type") for value in values):
        if len({repr(value) for value in values}) > 1:
            yield place, list(values)
        return
    keys = dict.fromkeys(key for value in values for key in value)
    inner = [d for key in keys for d in _differences([v.get(key) for v in values], f"{place}.{key}".lstrip("."))]
    if values[0].get("type") == "Schedule" and [d[0].rsplit(".", 1)[-1] for d in inner] not in (["start"], ["end"]):
        inner = [(place, list(values))] if inner else []
    yield from inner


def _symbol(place: str) -> str:
    """The setting in the words of the docs: the end of a schedule as a subscript, such as λ_end."""
    where, _, last = place.rpartition(".")
    if last in ("start", "end") and where:
        return f"{_symbol(where)}_{last}"
    return SYMBOLS.get(place) or last.replace("_", " ")


def _word(value: Any) -> str:
    """A value in short: a part by the name of its type, a function by its own, a path by its last part."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return _schedule(value) if value.get("type") == "Schedule" else str(value.get("type") or value.get("name"))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if isinstance(value, str) and "/" in text:
        return Path(text).name
    return text.rpartition(".")[2] if text.startswith("ovmse.") else text


def _schedule(value: Mapping[str, Any]) -> str:
    start, end, share = (_word(value.get(name)) for name in ("start", "end", "share"))
    shape = value.get("shape")
    return start if shape == "constant" else f"{shape}({start}, {end}{'' if share == '1' else f', {share}'})"
