"""Pages that open without a network: jinja2 templates, with every value from a file escaped."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ovmse.core.errors import number_of
from ovmse.render import format as fmt


def render(template: str, **values: Any) -> str:
    """A whole document from a file in ``templates/``; the style sheet and the figures are inside it."""
    return _ENVIRONMENT.get_template(template).render(values)


def _code(text: str) -> Markup:
    """Escaped text, `code` in backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


_HERE = Path(__file__).parent
_ENVIRONMENT = Environment(
    loader=FileSystemLoader([_HERE / "templates", _HERE]),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=lambda value: value.replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(value, str) else value,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"plain": fmt.plain, "code": _code}
_ENVIRONMENT.globals |= {"fmt": fmt, "number_of": number_of, "zip": zip}
