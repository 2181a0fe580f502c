"""Words on stderr: folded between words on a terminal, and whole elsewhere."""

from __future__ import annotations

import sys

import pytest

from connbench.commands.gates import announce
from connbench.commands.messages import print_error, print_message
from connbench.errors import UsageError
from connbench.thresholds import Failure

FAULT = UsageError("net.ipv4.ip_local_port_range " * 3 + "cannot be read", "mount -t tracefs tracefs " * 4 + "here")


def test_a_terminal_has_whole_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No line is wider than the terminal, further ones are indented, and no word is lost or broken."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    print_error(FAULT)
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert max(map(len, lines)) <= 40
    assert said.split() == f"connbench: {FAULT.message} -> {FAULT.hint}".split()
    advice = next(place for place, line in enumerate(lines) if line.startswith("  -> "))
    assert all(line.startswith("  ") for line in lines[1:advice])
    assert all(line.startswith(" " * 5) for line in lines[advice + 1 :])


def test_a_failed_threshold_is_folded_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A crossed threshold is folded like every message on stderr; GitHub's command for it stays one line."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    announce([("a/result.json", Failure("window 500", "odd.p50 > 3x even.p50", "measured 4.5x, which is too much"))])
    *lines, command = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40
    assert command.startswith("::error title=")
    assert command.partition("failed::")[2] == " ".join(" ".join(lines).split()).partition("failed: ")[2]


def test_a_pipe_has_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """In a log the fault has one line, and the advice one."""
    print_error(FAULT)
    print_message("many turns " * 20)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"connbench: {FAULT.message}", f"  -> {FAULT.hint}", "connbench: " + "many turns " * 20]
