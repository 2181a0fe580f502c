"""After every test of the command: nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import engines, network_namespaces


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before = network_namespaces()
    yield
    assert engines() == []
    assert network_namespaces() <= before
