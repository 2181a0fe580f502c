"""After every test of the command: none of its processes is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from run_connbench import started_here


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    assert started_here() == []
