"""The fixture of the tests whose outcome depends on the loop: they run with each of the two."""

from __future__ import annotations

import pytest

import run_connbench
from connbench.model import Loop
from connbench.planner.planner import why_no_c_loop


@pytest.fixture(params=list(Loop))
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The loop of every plan that the test makes: first the one in C, where it is built, then the one in Python."""
    loop: Loop = request.param
    if loop is Loop.C and (reason := why_no_c_loop()):
        pytest.skip(f"{reason}: it needs a C compiler and Python's headers")
    monkeypatch.setattr(run_connbench, "LOOP", loop)
    return loop
