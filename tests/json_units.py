"""Whether every number in a JSON document has its unit: in its name, or in docs/figures.md.

There the columns of an attempt are under "One attempt", and all other names under "The JSON".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "figures.md"

OPEN_ENDED = re.compile(r"(\.environment\.|.*\.counters\.|.*\.others\.|.*\.errors\.|.*\.sysctls\.)")
"""Where names are the kernel's, its states of connections among them, or an errno's."""

NAMED = re.compile(r"_(ns|ms|s|share)(\.|$)")
"""A unit in the name: it holds for all that stands under it."""


def numbers(value: object, path: str = "") -> Iterator[str]:
    """The path of every number in a document, positions in a list left out."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from numbers(one, f"{path}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


def without_unit(document: object) -> set[str]:
    """The paths of numbers that have no unit in their names or in the docs."""
    text = DOCS.read_text(encoding="utf-8")
    told = "".join(text.partition(f"## {title}")[2].partition("\n## ")[0] for title in ("One attempt", "The JSON"))
    return {
        path
        for path in numbers(document)
        if not NAMED.search(path) and not OPEN_ENDED.match(path) and f"`{path.rpartition('.')[2]}`" not in told
    }
