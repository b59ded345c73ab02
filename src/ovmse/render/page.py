"""Pages that open without a network."""

from pathlib import Path

from ovmse.render import html

CSS = Path(__file__).with_name("page.css")


def wrap_main(markup: str) -> str:
    """The page's main part."""
    return html.wrap("main", markup)
