"""The structure of the package, counted from its imports: ``python tools/structure.py``.

Prints how many imports there are between rooms (folders) by floor, which of them run up or sideways, which rooms are
in a knot, which modules import the package itself for a public name, and the size of the newcomer's way. The floors
are those of the first contract in `pyproject.toml`. Exit code 1 where anything is not in order.
"""

import ast
import sys
import tomllib
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ovmse"
NEWCOMERS_WAY = (
    "training/train.py", "learning/phases.py", "learning/update.py", "learning/learner.py", "methods/ovmse.py",
    "methods/signatures.py", "methods/targets.py", "methods/losses.py", "core/values.py",
)  # fmt: skip


def floors() -> dict[str, int]:
    """The floor of every room, the roof being 0."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = contracts[0]["layers"]
    return {room.strip(): number for number, layer in enumerate(layers) for room in layer.split("|")}


def room_of(path: Path) -> str:
    """The room of a file: its first folder, or its own name where it stands flat."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports_of(path: Path) -> list[str]:
    """The modules of the package that a file imports, wherever in the file, as dotted names below the package.

    An import of a name from the package itself that is no module of it stands as ``.name``.
    """
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [a.name.removeprefix("ovmse.") for a in node.names if a.name.split(".")[0] == "ovmse"]
        elif isinstance(node, ast.ImportFrom) and node.module == "ovmse":
            modules = {p.stem if p.suffix else p.name for p in SOURCE.iterdir()}
            found += [a.name if a.name in modules else f".{a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ovmse."):
            found.append(str(node.module).removeprefix("ovmse."))
    return found


def main() -> int:
    """Count, print, and tell whether all is in order."""
    floor, counts, wrong = floors(), Counter[tuple[str, str]](), []
    for path in sorted(SOURCE.rglob("*.py")):
        if path == SOURCE / "__init__.py":
            continue  # the face: it names what there is, loaded on first use
        room = room_of(path)
        for name in imports_of(path):
            other = name.split(".")[0]
            if not other:
                wrong.append(f"{path.relative_to(ROOT)} imports the package itself for {name[1:]!r}")
            elif other != room:
                counts[room, other] += 1
                if floor[other] <= floor[room]:
                    wrong.append(f"{path.relative_to(ROOT)} ({room}) imports {name}, which is no floor below")
    for (room, other), count in sorted(counts.items(), key=lambda x: (floor[x[0][0]], x[0])):
        print(f"{room:>10} → {other:<10} {count:4}")
    graph: dict[str, set[str]] = {}
    for room, other in counts:
        graph.setdefault(room, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append(f"knot: {' → '.join(error.args[1])}")
    way = [len((SOURCE / name).read_text().splitlines()) for name in NEWCOMERS_WAY]
    files = [len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")]
    print(f"{sum(counts.values())} imports between {len(floor)} rooms on {max(floor.values()) + 1} floors")
    print(f"{len(wrong)} run up, sideways, in a knot, or ask the package for a public name")
    print(
        f"the newcomer's way: {len(way)} files, {sum(way)} lines; the package: {len(files)} files, {sum(files)} lines"
    )
    print(*wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
