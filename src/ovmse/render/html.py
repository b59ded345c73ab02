"""Small pieces of HTML. Every value that comes from a file is escaped here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ovmse.render.format import plain


def tag(name: str, content: Any, **attributes: str) -> str:
    """An element around escaped text; ``cls`` stands for the attribute ``class``."""
    return wrap(name, _text(content), **attributes)


def _text(content: Any) -> str:
    """Escaped text; a percent sign stays on its number's line."""
    return escape(str(content)).replace(" %", "&nbsp;%")


def wrap(name: str, markup: str, **attributes: str) -> str:
    """An element around markup that is already safe."""
    text = "".join(f' {k.replace("cls", "class")}="{escape(v, quote=True)}"' for k, v in attributes.items())
    return f"<{name}{text}>{markup}</{name}>"


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], cls: str = "") -> str:
    """A table with a caption and header cells for columns and rows; a wide one scrolls sideways."""
    head = "".join(tag("th", h, scope="col") for h in header)
    body = "".join(
        wrap("tr", tag("th", first, scope="row") + "".join(tag("td", cell) for cell in rest)) for first, *rest in rows
    )
    markup = tag("caption", caption) + wrap("thead", wrap("tr", head)) + wrap("tbody", body)
    return wrap("div", wrap("table", markup, **({"cls": cls} if cls else {})), cls="wide")


def pairs(caption: str, values: Mapping[str, Any], header: tuple[str, str] = ("setting", "value")) -> str:
    """A two-column table of names and values."""
    return table(caption, header, [(k, v if isinstance(v, str) else plain(v)) for k, v in values.items()], cls="pairs")


def cards(values: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers: name, value, and a remark beneath."""
    items = (
        wrap("li", tag("span", n, cls="name") + tag("span", v, cls="value") + tag("span", more, cls="more"))
        for n, v, more in values
    )
    return wrap("ul", "".join(items), cls="cards")


def box(title: str, lines: Sequence[str], warn: bool = False) -> str:
    """A marked box with a list of sentences, `code` in backticks; nothing without lines."""
    if not lines:
        return ""
    items = "".join(wrap("li", re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(line))) for line in lines)
    return wrap("div", tag("strong", title) + wrap("ul", items), cls="box warn" if warn else "box")


def fold(title: str, markup: str) -> str:
    """Content that is folded away until asked for."""
    return wrap("details", tag("summary", title) + markup)


def figure(svg: str, caption: str, files: Sequence[Path], base: Path, cls: str = "plot") -> str:
    """An inline figure with its caption and links to the files beside the page."""
    links = " · ".join(tag("a", f.suffix[1:].upper(), href=f.relative_to(base).as_posix()) for f in files)
    return wrap("figure", wrap("div", svg, cls=cls) + wrap("figcaption", f"{_text(caption)} {links}"))


def page(title: str, css: str, body: str) -> str:
    """A whole document that needs nothing from anywhere else."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}{tag("title", title)}<style>{css}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )
