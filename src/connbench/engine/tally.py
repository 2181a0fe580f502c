"""What accepting processes count, in memory they share: each writes a row of its own, so nothing is locked."""

from __future__ import annotations

import mmap
from enum import IntEnum

CELL_BYTES = 8
"""A C long long, written in one store, so that a reader never sees half of a number."""


class Column(IntEnum):
    """The cells of a row.

    `ENDED` and `RESET` are the connections whose peer closed them, by FIN or otherwise; `MOST` is the most open at
    once in all processes together, as far as this one saw. `FAULT` is the errno of the call that ended the process.
    """

    ACCEPTED = 0
    OPEN = 1
    ENDED = 2
    RESET = 3
    MOST = 4
    FULL = 5
    FAULT = 6


ROW_CELLS = 8
"""A cache line: what one process counts costs no other."""


class Tally:
    """A row of counts for each process; made before they are forked."""

    def __init__(self, processes: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, processes * ROW_CELLS * CELL_BYTES)).cast("q")
        self._open_cells = range(Column.OPEN, processes * ROW_CELLS, ROW_CELLS)

    def row(self, number: int) -> memoryview[int]:
        """Cells of one process, to read and to write, by `Column`."""
        return self._cells[number * ROW_CELLS : (number + 1) * ROW_CELLS]

    def open_in_all(self) -> int:
        """Connections all processes together hold."""
        cells = self._cells
        return sum(cells[cell] for cell in self._open_cells)
