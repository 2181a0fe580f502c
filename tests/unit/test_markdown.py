"""The table to paste into an issue: its figures, and that nothing in it is markup."""

from __future__ import annotations

import errno
import html
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from connbench.analysis.soundness import findings
from connbench.errors import Interrupted, RunFault
from connbench.findings import Finding, Severity
from connbench.model import Link, StrategySpec
from connbench.report.markdown import escape
from connbench.report.run_report import markdown
from connbench.results.result import Origin, Result, Round
from connbench.safe_text import printable
from factories import BIND, PLAIN, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of, unhurried

GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = "a|b <script>alert(1)</script> `x` **y** _z_ [l](http://e.org) ~~s~~ \\ &amp; \n# @who #12 $m$"

TURNING = samples_of([10_000] * 100 + [50_000] * 100, port=[*range(9024, 9224, 2), *range(9025, 9225, 2)])
FAILING = samples_of([20_000, 40_000, 30_000, 10_000], errno=[0, 0, errno.EADDRNOTAVAIL, 0])


def table(result: Result) -> list[dict[str, str]]:
    """The rows of the one table, as GitHub's markdown renders them."""
    page = GITHUB.render(markdown(result))
    assert page.count("<table>") == 1
    header = _texts(page, "th")
    cells = _texts(page, "td")
    rows = [cells[i : i + len(header)] for i in range(0, len(cells), len(header))]
    return [dict(zip(header, row, strict=True)) for row in rows]


def _texts(page: str, tag: str) -> list[str]:
    found = re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", page, re.DOTALL)
    return [html.unescape(cell.replace("<!-- -->", "")) for cell in found]


def test_table_has_a_row_a_strategy_with_its_figures() -> None:
    """Every figure that strategies are compared by stands under its name."""
    first, second = table(result_of({PLAIN: [round_of(TURNING)], WINDOW: [round_of(FAILING)]}))
    assert first == {
        "strategy": "plain",
        "attempts": "200",
        "errors": "0",
        "acquire": "31.0 µs",
        "vs plain": "1.00 x",
        "connect()": "30.0 µs",
        "latency mean": "30.0 µs",
        "p50": "30.0 µs",
        "p99": "50.0 µs",
        "even p50 / mean": "10.0 µs / 10.0 µs",
        "odd p50 / mean": "50.0 µs / 50.0 µs",
        "knee": "101 (0.2%)",
    }
    assert (second["strategy"], second["errors"], second["vs plain"]) == (
        "window 500",
        "1 (25.0%)",
        "no difference shown",
    )
    assert (second["even p50 / mean"], second["odd p50 / mean"]) == ("20.0 µs / 20.0 µs", "25.0 µs / 25.0 µs")
    assert second["knee"] == "-"


def test_single_strategy_is_not_compared() -> None:
    """A single strategy has nothing to be faster than."""
    [row] = table(result_of({RANDOM: [round_of(samples_of([1000] * 100))]}))
    assert not any(name.startswith("vs") for name in row)
    assert row["knee"] == "none up to 0.2% in use"


def test_kernel_and_plan_come_first() -> None:
    """The heading has the kernel, and the line below it the plan."""
    lines = markdown(result_of({BIND: [round_of(FAILING), round_of(FAILING, 2)]})).splitlines()
    assert lines[:3] == [
        "### connbench: Linux 6.8.0-test",
        "",
        (
            "range 9024-65535, 127.9.9.1 to 127.9.9.2:9023, own network namespace, backlog listener, loop C, seed 1, "
            "2 rounds"
        ),
    ]


def test_a_link_that_is_not_the_loopback_is_named() -> None:
    """The link stands beside the namespace."""
    result = result_of({BIND: [round_of(FAILING)]}, replace(PLAN, link=Link.VETH))
    assert ", own network namespace, veth link, backlog listener, " in markdown(result)


def test_rounds_are_compared_by_their_median() -> None:
    """With several rounds the cost of a connection is the median round's."""
    rounds = [round_of(samples_of([ns] * 10), number) for number, ns in enumerate((9_000_000, 1_000_000, 1_999_000), 1)]
    [row] = table(result_of({BIND: rounds}))
    assert row["acquire"] == "2.00 ms"


def test_result_without_a_plan_says_what_it_was_read_from() -> None:
    """Where the plan is unknown, the file's name stands for it, with a note that it holds the attempts alone."""
    result = Result(None, {}, origin=Origin.TALK_CSV, name="1700000000-6.1.csv")
    result.add(StrategySpec("1700000000-6.1"), Round(1, FAILING))
    text = markdown(result)
    assert text.startswith("### connbench: kernel unknown\n\ntalk CSV 1700000000-6.1.csv\n")
    assert text.splitlines()[-1].startswith("- **note:** 1700000000-6.1.csv: a talk CSV contains only the attempts")


def test_findings_are_a_list() -> None:
    """Each finding is an item with severity, place, message and advice; the last item ends the text."""
    result = result_of({PLAIN: [round_of(FAILING)], BIND: [round_of(FAILING, fault=Interrupted(2))]})
    page = GITHUB.render(markdown(result))
    assert page.endswith("</ul>\n")
    assert len(findings(result)) == page.count("<li>") == 1
    assert "<strong>warning:</strong> bind: partial, 4 of 4 attempts: stopped by SIGINT; run it again" in page


@pytest.mark.parametrize("measured", [round_of(samples_of([])), round_of(samples_of([]), fault=RunFault("socket()"))])
def test_round_without_an_attempt_has_dashes(measured: Round) -> None:
    """A round without an attempt has no figures, and no zeros that would read as figures."""
    [row] = table(result_of({PLAIN: [measured]}))
    assert row == {
        "strategy": "plain",
        "attempts": "0",
        "errors": "0",
        **dict.fromkeys(("acquire", "connect()"), "partial" if measured.fault else "-"),
        **dict.fromkeys(("latency mean", "p50", "p99", "even p50 / mean", "odd p50 / mean", "knee"), "-"),
    }


def test_hostile_values_are_shown_as_they_are() -> None:
    """A strategy, kernel, name or finding from a file is text, whatever it contains."""
    spec = replace(WINDOW, name=HOSTILE)
    finding = Finding("x", Severity.WARNING, HOSTILE, HOSTILE)
    result = result_of({spec: [round_of(FAILING)], PLAIN: [round_of(FAILING)]}, known=(finding,))
    result.environment["kernel"] = HOSTILE
    shown = printable(" ".join(HOSTILE.split(" ")))
    assert table(result)[0]["strategy"] == f"{shown} 500"
    page = GITHUB.render(markdown(result))
    ours = ["h3", "p", "table", "thead", "tr", "th", "tbody", "td", "ul", "li", "strong"]
    assert set(re.findall(r"<(\w+)", page)) == set(ours)
    [heading] = _texts(page, "h3")
    assert heading == f"connbench: Linux {' '.join(HOSTILE.split())}"
    assert not re.search(r"@who|#12|http://", markdown(result))


@unhurried
@given(st.text())
def test_any_text_is_rendered_as_itself(text: str) -> None:
    """Escaped text is one cell of a table, and renders as it was, except white space and unprintable characters."""
    page = GITHUB.render(f"| a | b |\n|---|---|\n| x{escape(text)}x | y |\n")
    expected = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert _texts(page, "td") == [f"x{expected}x", "y"]
