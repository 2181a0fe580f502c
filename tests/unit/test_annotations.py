"""GitHub's workflow commands."""

from __future__ import annotations

import pytest

from connbench.commands.gates import annotation, announce
from connbench.thresholds import Failure


def test_annotation_is_one_line_whatever_it_says() -> None:
    """Percent signs and line ends are escaped everywhere, colons and commas in the title only."""
    assert annotation("a: b, 5%\n", "plain: p99 > 5%, measured\r\n%0A") == (
        "::error title=a%3A b%2C 5%25%0A::plain: p99 > 5%25, measured%0D%0A%250A"
    )


def test_failure_is_a_line_and_a_command_whatever_it_is_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the file's name nor the strategy's begins a line of its own, and so no command."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    words = "\x1b[2J\x07\n::error::pwned\u202e"
    announce([(words, Failure(words, words, words)), ("", Failure(words, words, words))])
    shown = "\ufffd[2J\ufffd\ufffd:\ufffderror:\ufffdpwned\ufffd"
    once, twice = f"{shown}: {shown}{shown}", f"{shown}: {shown}: {shown}{shown}"
    title = "::error title=connbench%3A threshold failed::"
    assert capsys.readouterr().err.split("\n") == [
        f"connbench: threshold failed: {twice}",
        f"{title}{twice}",
        f"connbench: threshold failed: {once}",
        f"{title}{once}",
        "",
    ]
