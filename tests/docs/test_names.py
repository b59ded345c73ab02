"""Every module, function and file that the documentation names is there."""

import importlib
import re

import pytest
from support.places import ROOT

PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]


def found(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    names = set(re.findall(r"`(ovmse\.[a-z_]+(?:\.\w+)*)", text)) - {"ovmse.x"}
    assert not [name for name in sorted(names) if not found(name)]
    files = set(re.findall(r"`((?:src|tests|docs|studies|benchmarks|tools)/[\w/.-]+\.(?:py|md|toml))`", text))
    assert not [file for file in sorted(files) if not (ROOT / file).exists()]
