"""How figures look and how they are written: palette, axes, SVG and PNG files, inline SVG for the page."""

import io
import re
import textwrap
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ovmse.stats.estimates import Curve, Estimate

INK, MUTED, GRID = "#1f2328", "#59636e", "#d8dee4"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito, colour-blind safe
DASHES = ("-", "--", "-.", ":")
NAMED = 34  # characters in a line of a name beside an axis
PAGE_COLOURS = {INK: "ink", MUTED: "muted", GRID: "grid"} | {c: f"c{i}" for i, c in enumerate(PALETTE)}
THEME: dict[Any, Any] = {
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "text.color", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titley": 1.0,  # given, since looking for room above each panel at each drawing takes a tenth of it
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "ovmse",
}


Write = Callable[[Path, bytes], None]


def style_of(i: int) -> dict[str, Any]:
    """Colour and dash of the i-th line: colours first, then a new dash for each round of them."""
    return {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i // len(PALETTE) % len(DASHES)]}


def compact(value: float, _position: object = None) -> str:
    """A tick label without trailing zeros: 950, 20k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def draw_curve(ax: Axes, curve: Curve, **style: Any) -> None:
    """A line with its interval as a band; few points are also marked."""
    marks: dict[str, Any] = {"marker": "o", "markersize": 3.5} if curve.x.size <= 12 else {}
    ax.plot(curve.x, curve.middle, **(marks | style), zorder=3)
    if curve.low is not None and curve.high is not None:
        ax.fill_between(curve.x, curve.low, curve.high, color=style["color"], alpha=0.18, linewidth=0, zorder=2)


def draw_estimate(ax: Axes, estimate: Estimate, y: int, colour: str) -> None:
    """An estimate as a diamond on the line `y`, its interval as a bar."""
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=5, alpha=0.35, zorder=1)
    ax.plot(estimate.value, y, "D", color=colour, markersize=6, zorder=3)


def names_axis(ax: Axes, names: Sequence[str], first: int = 0, most: int = NAMED) -> None:
    """A y axis of names from the top down, at whole numbers from `first` on, each in lines of at most so many
    characters."""
    ax.set_yticks(range(first, first + len(names)), [wrapped(name, most) for name in names])
    ax.set_ylim(first + len(names) - 0.4, first - 0.6)
    ax.grid(visible=False, axis="y")


def legend_above(figure: Figure | SubFigure, names: Sequence[str]) -> None:
    """Above everything: the i-th name in the i-th style."""
    handles = [Line2D([], [], label=wrapped(name, 100), **style_of(i)) for i, name in enumerate(names)]
    columns = max(1, min(4, 110 // (max(map(len, names)) + 8)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def progress_axis(ax: Axes, label: str, ticks: int) -> None:
    """An x axis of counts that starts at 0."""
    ax.set_xlabel(label)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(compact)


def percent_axis(axis: Axis) -> None:
    """Ticks of an axis from 0 to 1 as percentages."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def score_axis(ax: Axes, score: str) -> None:
    """A y axis for win rates (0 to 100 %), shares (0 to 1) or plain numbers."""
    if score in ("return", "fqe"):
        ax.margins(y=0.08)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(compact)
        return
    ax.set_ylim(-0.03, 1.03)
    ax.set_yticks(np.linspace(0, 1, 5))
    if score == "win_rate":
        percent_axis(ax.yaxis)


def say_in(ax: Axes, text: str) -> None:
    """Why a panel is empty, in its middle."""
    ax.text(0.5, 0.5, text, color=MUTED, ha="center", va="center", transform=ax.transAxes)


def shortened(labels: Sequence[str], most: int) -> list[str]:
    """Labels of at most so many characters, as far as they then stay distinct: without their ends or their middles."""
    half = most // 2
    for head, tail in ((most - 1, 0), (most - 1 - half, half)):
        found = [x if len(x) <= most else f"{x[:head]}…{x[len(x) - tail :]}" for x in labels]
        if len(set(found)) == len(set(labels)):
            return found
    return list(labels)


def wrapped(label: str, most: int) -> str:
    """A label in lines of at most so many characters, nothing of it cut."""
    return textwrap.fill(label, most)


def lay_out(figure: Figure) -> None:
    """Place everything once: the layout costs a third of each drawing, and a figure is drawn three times."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine(None)


class _BothTexts(RendererSVG):
    """Writes each text twice, as text and as outlines, between marks that no text contains: what is drawn is the same,
    and most of the time goes into finding that out."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.mark = uuid.uuid4().hex

    def draw_text(self, *arguments: Any, **more: Any) -> None:
        for kind in ("none", "path"):
            matplotlib.rcParams["svg.fonttype"] = kind
            self.writer.comment(self.mark)
            super().draw_text(*arguments, **more)
        self.writer.comment(self.mark)


def _svgs(figure: Figure) -> tuple[str, str]:
    """A laid-out figure as SVG, without a background: its text as text, and as outlines."""
    drawn = io.StringIO()
    figure.set(dpi=72, facecolor="none")
    with matplotlib.rc_context(THEME):
        width, height = figure.get_size_inches() * 72
        renderer = _BothTexts(width, height, drawn, metadata=dict.fromkeys(("Date", "Creator")))
        figure.draw(renderer)
        renderer.finalize()
    parts = re.split(rf" *<!-- {renderer.mark} -->\n", drawn.getvalue())
    texts, outlined = ("".join(part for i, part in enumerate(parts) if i % 3 != other) for other in (2, 1))
    return texts, outlined


def save(figure: Figure, stem: Path, write: Write) -> tuple[Path, Path]:
    """Have `stem`.svg and `stem`.png written, on white, text as outlines; return both paths.

    write: what writes the bytes of a file, whole or not at all.
    """
    lay_out(figure)
    return _write(figure, _svgs(figure)[1], stem, write)


def _write(figure: Figure, outlined: str, stem: Path, write: Write) -> tuple[Path, Path]:
    """Have the files of a laid-out figure written, of which `outlined` is the SVG."""
    svg, png = (stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png"))
    write(svg, outlined.replace("fill: none", "fill: #ffffff", 1).encode())  # the figure's own patch comes first
    write(png, png_of(figure, dpi=180))
    return svg, png


def png_of(figure: Figure, dpi: int) -> bytes:
    """A figure as PNG, on white."""
    drawn = io.BytesIO()
    with matplotlib.rc_context(THEME):
        figure.savefig(drawn, format="png", facecolor="white", dpi=dpi, metadata={"Software": None})
    return drawn.getvalue()


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return png_of(self, dpi=110)


class Picture(NamedTuple):
    """A figure on a page: its ``<svg>`` element, and its files by their paths from the page."""

    svg: Markup
    files: tuple[Path, ...]


def picture(figure: Figure, folder: Path, name: str, write: Write) -> Picture:
    """Have a figure written (see `save`) into ``figures/`` beside the page, and return what the page shows.

    In the SVG text stays text, every id starts with `name`, and the palette's colours are the page's variables, so that
    they follow its light or dark scheme.
    """
    lay_out(figure)
    texts, outlined = _svgs(figure)
    _, start, svg = texts.partition("<svg")
    svg = re.sub(r"<metadata>.*?</metadata>", "", start + svg.rstrip(), flags=re.DOTALL)
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    svg = re.sub(r' (width|height)="[^"]*"', "", svg, count=2)  # of the <svg> itself: it fills the page's width
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    files = _write(figure, outlined, folder / "figures" / name, write)
    return Picture(Markup(svg), tuple(file.relative_to(folder) for file in files))
