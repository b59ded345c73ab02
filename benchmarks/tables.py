"""The figures as tables in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.records import Ratio, Record
from benchmarks.timing import Spread

SCALES = {
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns")],
    "FLOP/s": [(1e12, "TFLOP/s"), (0.0, "GFLOP/s")],
    "B/s": [(0.0, "GB/s")],
    "B": [(0.0, "GiB")],
}
"""Per unit: from which value on a larger one is written, and its name."""
WORTH = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "TFLOP/s": 1e12, "GFLOP/s": 1e9, "GB/s": 1e9, "GiB": 2.0**30}


def figure(x: Record | Ratio) -> str:
    """The median in a readable unit."""
    return with_unit(x.value, x.unit if isinstance(x, Record) else "")[0]


def with_unit(value: Spread, unit: str) -> tuple[str, str]:
    """Median with its unit, and the range, in the same unit."""
    scaled = next((name for least, name in SCALES.get(unit, []) if value.median >= least), unit)
    worth = WORTH.get(scaled, 1.0)

    def number(x: float) -> str:
        x /= worth
        return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"

    plain = scaled if scaled not in ("share", "ratio") else ""
    return f"{number(value.median)} {plain}".strip(), f"{number(value.low)} – {number(value.high)}"


def cores_name(cores: int) -> str:
    """Cores as a table's cell; an accelerator has none."""
    return str(cores) if cores else "–"


def records_table(part: str, records: list[Record]) -> Table:
    """One part's records."""
    table = Table("what", "on", title=part)
    for name in ("batch", "seeds", "cores", "median", "range", "floor", "of floor"):
        table.add_column(name, justify="right", no_wrap=name in ("median", "range"))
    for r in records:
        median, span = with_unit(r.value, r.unit)
        floor = (
            with_unit(Spread(r.floor_seconds, r.floor_seconds, r.floor_seconds, 1), "s")[0] if r.floor_seconds else ""
        )
        share = f"{100 * r.share:.0f} %" if r.share is not None else str(r.notes.get("goal", ""))
        env = r.env.removeprefix("smax:")
        cells = [r.name, env, str(r.batch or ""), str(r.seeds), cores_name(r.cores), median, span, floor, share]
        table.add_row(*map(escape, cells))
    return table


def ratios_table(ratios: list[Ratio]) -> Table:
    """Figures side by side."""
    table = Table("ratio", "on", "cores", "median", "range", "goal", title="side by side")
    for r in ratios:
        median, span = with_unit(r.value, "")
        cells = [f"{r.part}: {r.name}", r.env.removeprefix("smax:"), cores_name(r.cores), median, span, r.goal]
        table.add_row(*map(escape, cells))
    return table


def show(console: Console, found: list[Record | Ratio]) -> None:
    """All of it, part by part."""
    records = [x for x in found if isinstance(x, Record)]
    for part in dict.fromkeys(r.part for r in records):
        console.print(records_table(part, [r for r in records if r.part == part]))
    if ratios := [x for x in found if isinstance(x, Ratio)]:
        console.print(ratios_table(ratios))
