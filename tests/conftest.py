"""Fixtures and hooks for every test, and the skip of tests that this machine cannot run."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

import run_connbench
from allowed_namespace import NAMESPACE, REASON
from connbench.model import Loop

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if (
        signal.getsignal(number) is signal.SIG_IGN
    ):  # as `nohup` and `&` have it, and commands that are started inherit it
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(
    "unhurried"
)  # by default hypothesis fails a test whose example takes 200 ms, and one slow to draw


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a network namespace where none is allowed, and say why; the longest file goes first.

    Where two run at a time, the other has all the rest to do meanwhile.
    """
    items.sort(key=lambda item: item.path.name != "test_readme.py")
    if NAMESPACE.is_own:
        return
    for item in items:
        if item.path.parent.name in {"netns", "cli"}:
            item.add_marker(pytest.mark.skip(reason=f"no network namespace allowed here: {REASON}"))


@pytest.fixture(params=[pytest.param(Loop.C, marks=run_connbench.needs_c_loop), Loop.PYTHON])
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """First the loop in C, where it is built, then the one in Python; every plan that `make_plan` makes has it."""
    loop: Loop = request.param
    monkeypatch.setattr(run_connbench, "LOOP", loop)
    return loop
