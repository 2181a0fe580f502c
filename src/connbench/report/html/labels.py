"""Where the label of each mark goes, so that no two of them lie over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

SHARE_PIXELS, DECADE_PIXELS = 950, 95
"""Of the chart on a desk's screen: the whole width, which is a share of 1, and a power of ten of its height."""

CHARACTER, LINE, MARK = 7, 16, 8
"""Pixels of a label's character and line, and from the middle of a mark to its label."""

SIDES = {"middle right": (1, 0), "middle left": (-1, 0), "top right": (1, 1), "top left": (-1, 1),
         "bottom right": (1, -1), "bottom left": (-1, -1)}  # fmt: skip
"""plotly's names, the first that fits first: the side of the mark, and whether above it or below."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the chart and what is to be written beside it: a share from 0 to 1, a latency in s, words."""

    share: float
    latency_s: float
    text: str


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    right: float
    low: float
    high: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high


def sides(marks: Sequence[Mark]) -> list[str | None]:
    """The `textposition` of each label; None where it would lie over another's, or be cut off at either end."""
    taken: list[_Box] = []
    found: list[str | None] = []
    for mark in marks:
        boxes = {side: _box(mark, *where) for side, where in SIDES.items()}
        free = next((side for side, box in boxes.items() if _is_free(box, taken)), None)
        if free:
            taken.append(boxes[free])
        found.append(free)
    return found


def _is_free(box: _Box, taken: Sequence[_Box]) -> bool:
    return box.left >= 0 and box.right <= SHARE_PIXELS and not any(box.meets(other) for other in taken)


def _box(mark: Mark, across: int, up: int) -> _Box:
    width, x = CHARACTER * len(mark.text), SHARE_PIXELS * mark.share
    y = DECADE_PIXELS * log10(max(mark.latency_s, 1e-9))
    near, middle = x + across * MARK, y + up * LINE
    far = near + across * width
    return _Box(min(near, far), max(near, far), middle - LINE / 2, middle + LINE / 2)
