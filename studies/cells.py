"""Cells of a study whose results stand in one file of JSON lines: what is finished is not run again."""

from pathlib import Path

from ovmse.system.files import read_json_lines, write_json_lines


def finished(results: Path, *keys: str) -> set[tuple[str, ...]]:
    """The finished cells, by these fields of their lines; the file, empty, where there is none yet."""
    if not results.exists():
        results.parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(results, [])
    return {tuple(line[key] for key in keys) for line in read_json_lines(results)}
