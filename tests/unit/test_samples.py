"""The columns of the samples: where they lie in shared memory, and what is read from it."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench import samples
from connbench.results.result import Samples
from factories import unhurried

COLUMN_TABLE = Path(__file__).parents[2] / "scripts" / "columntable.py"
ROWS = st.integers(1, 300)


@contextmanager
def shared(rows: int) -> Iterator[tuple[int, dict[str, memoryview]]]:
    """Shared memory for this many attempts: its descriptor, and the columns to write through."""
    descriptor = samples.create(rows)
    try:
        yield descriptor, samples.views(samples.attach(descriptor, rows), rows)
    finally:
        os.close(descriptor)


def write(columns: dict[str, memoryview], row: int) -> None:
    """Finish an attempt with a value that identifies its row and column, `tries` last."""
    names = sorted(columns, key="tries".__eq__)
    for position, name in enumerate(names):
        columns[name][row] = 1 + row * len(names) + position


@given(ROWS)
@unhurried
def test_columns_are_aligned_and_fill_the_memory_without_overlap(rows: int) -> None:
    """Each column starts at a multiple of its element and where the one before it ends; the last ends the memory."""
    end, sizes = samples.CONTROL_BYTES, {column.name: column.size for column in samples.COLUMNS}
    for name, start in sorted(samples.offsets(rows).items(), key=lambda one: one[1]):
        assert start == end
        assert start % sizes[name] == 0
        end = start + sizes.pop(name) * rows
    assert not sizes
    with shared(rows) as (descriptor, _):
        assert end == os.fstat(descriptor).st_size == samples.CONTROL_BYTES + samples.ROW_BYTES * rows


@given(ROWS)
@unhurried
def test_stop_flag_and_samples_leave_each_other_alone(rows: int) -> None:
    """A flag that one mapping sets, every mapping has; it changes no sample, and no sample changes it."""
    with shared(rows) as (descriptor, columns):
        mine, theirs = samples.stop_flag(descriptor), samples.stop_flag(descriptor)
        for row in range(rows):
            write(columns, row)
        assert theirs.tolist() == [0]
        mine[0] = 1
        assert theirs.tolist() == [1]
        assert not Samples.from_memory(descriptor, rows, range(rows)).port.tolist().count(0)
        assert samples.attach(descriptor, rows)[:8] == bytes((1, 0, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("column", samples.COLUMNS, ids=lambda column: column.name)
def test_column_has_the_size_of_its_type(column: samples.Column) -> None:
    """Type code and size of a column agree, for numpy and for memoryview."""
    assert np.dtype(column.code).itemsize == column.size
    assert memoryview(bytes(column.size)).cast("B").cast(column.code).shape == (1,)  # type: ignore[call-overload]  # the code is not a literal


def test_documented_columns_are_those_of_the_schema() -> None:
    """docs/figures.md has the table that `make columns` writes."""
    done = subprocess.run([sys.executable, COLUMN_TABLE, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@given(ROWS, st.data())
@unhurried
def test_finished_attempts_are_read_back_as_written(rows: int, data: st.DataObject) -> None:
    """The parent reads what the engine wrote of each finished attempt, and nothing of the others.

    In flight attempts finish in any order, so that unfinished ones can lie between them.
    """
    done = sorted(data.draw(st.sets(st.integers(0, rows - 1))))
    with shared(rows) as (descriptor, columns):
        for row in data.draw(st.permutations(done)):
            write(columns, row)
        read = Samples.from_memory(descriptor, rows, range(rows))
    assert len(read) == len(done)
    for name, column in columns.items():
        assert getattr(read, name).tolist() == [column[row] for row in done]
    assert not done or read.tries[-1] == (done[-1] + 1) * len(columns)


def test_attempt_in_the_making_is_left_out() -> None:
    """An attempt without `tries`, as when its worker was killed, is no attempt."""
    with shared(3) as (descriptor, columns):
        write(columns, 0)
        columns["connect_ns"][1] = 5
        read = Samples.from_memory(descriptor, 3, range(3))
    assert read.connect_ns.tolist() == [columns["connect_ns"][0]]


@pytest.mark.parametrize("column", samples.COLUMNS, ids=lambda column: column.name)
def test_column_holds_its_largest_value(column: samples.Column) -> None:
    """The largest value of a column stays in it: its neighbours keep 0."""
    largest = int(np.iinfo(column.code).max)
    with shared(2) as (descriptor, columns):
        columns["tries"][:] = memoryview(array("I", [1, 1]))
        columns[column.name][0] = largest
        read = Samples.from_memory(descriptor, 2, range(2))
    total = {c.name: int(getattr(read, c.name).sum(dtype=object)) for c in samples.COLUMNS}
    expected = {c.name: 2 if c.name == "tries" else 0 for c in samples.COLUMNS}
    expected[column.name] = largest + (1 if column.name == "tries" else 0)
    assert total == expected


def test_samples_read_are_a_copy() -> None:
    """The samples stay as they were when the shared memory changes."""
    with shared(1) as (descriptor, columns):
        write(columns, 0)
        read = Samples.from_memory(descriptor, 1, range(1))
        before = read.port.tolist()
        columns["port"][0] = 9
    assert read.port.tolist() == before


@given(st.integers(0, 50), st.integers(0, 400), st.integers(0, 400))
@unhurried
def test_finished_attempts_are_counted(before: int, done: int, left: int) -> None:
    """Bisection finds the same number of finished attempts among some rows as counting one by one."""
    tries = memoryview(array("I", [0] * before + [3] * done + [0] * left))
    linear = before
    while linear < len(tries) and tries[linear]:
        linear += 1
    assert samples.count_done(tries, range(before, len(tries))) == linear - before == done
