"""GitHub's workflow commands."""

from __future__ import annotations

from connbench.cli.gates import annotation


def test_annotation_is_one_line_whatever_it_says() -> None:
    """Percent signs and line ends are escaped everywhere, colons and commas in the title only."""
    assert annotation("a: b, 5%\n", "plain: p99 > 5%, measured\r\n%0A") == (
        "::error title=a%3A b%2C 5%25%0A::plain: p99 > 5%25, measured%0D%0A%250A"
    )
