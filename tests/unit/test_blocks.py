"""The writers of a report: every kind of block has its form in text and in markdown, and the verdict its place."""

from __future__ import annotations

import pytest

from connbench.findings import Finding, Severity
from connbench.report import markdown, text
from connbench.report.blocks import Alert, Block, Findings, Heading, Lines, Table, Verbatim, Verdict

FINDING = Finding("slow", Severity.WARNING, "a call took a second", "measure again", "bind", 1)

REPORT: list[Block] = [
    Heading("bind: Linux 6.8", "bind:"),
    Verdict(["It is fast.", "Next: nothing."]),
    Alert("one of these may be the reason:", [("warning", "another kernel")]),
    Verbatim("total  time:   1s"),
    Table(("figure", "n", "verdict"), [("p50", "7", "slower")], title="A table", remarks=("A remark.",), words=(2,)),
    Lines(["first", "second"], is_list=True),
    Findings([FINDING]),
]


def test_text_has_each_block_and_the_verdict_at_the_end() -> None:
    """Blank lines stand between blocks, none below a heading; words are aligned left in their column."""
    assert text.write(REPORT).splitlines() == [
        "bind: Linux 6.8",
        "WARNING: one of these may be the reason:",
        "  warning: another kernel",
        "",
        "total  time:   1s",
        "",
        "A table",
        "figure  n  verdict",
        "p50     7  slower",
        "A remark.",
        "",
        "first",
        "second",
        "",
        "warning: bind, round 1: a call took a second",
        "  -> measure again",
        "",
        "verdict: It is fast.",
        "Next: nothing.",
    ]


def test_markdown_has_each_block_in_its_order() -> None:
    """A bold beginning, paragraphs, a warning of GitHub's, a block of code, a table, lists."""
    assert markdown.write(REPORT).split("\n\n") == [
        "**bind:** Linux 6.8",
        "It is fast.",
        "Next: nothing.",
        "> [!WARNING]\n> one of these may be the reason:\n>\n> - **warning** another kernel",
        "```text\ntotal  time:   1s\n```",
        "**A table**",
        "| figure |   n | verdict |\n| ------ | --: | ------- |\n| p50    |   7 | slower  |",
        "A remark.",
        "- first\n- second",
        "- **warning:** bind, round 1: a call took a second; measure again\n",
    ]


def test_verdict_stays_first_where_that_is_asked_for() -> None:
    """Blocks without content leave no blank lines."""
    nothing: list[Block] = [Lines([]), Findings([]), Verdict([]), Table(("a",), [])]
    assert text.write([*nothing, Lines(["a line"]), Verdict(["So."])], verdict_first=True) == "verdict: So.\n\na line"
    assert text.write(nothing) == ""


@pytest.mark.parametrize(("block", "stressed"), [(REPORT[0], "bind:"), (REPORT[1], "verdict:")], ids=["head", "end"])
def test_bold_is_the_word_that_a_reader_looks_for(block: Block, stressed: str) -> None:
    """The first one, without any other change to the text."""
    bold = text.write([block], bold=True)
    assert bold.startswith(f"{text.BOLD}{stressed}{text.NORMAL}")
    assert bold.replace(text.BOLD, "").replace(text.NORMAL, "") == text.write([block])
    assert bold.count(text.BOLD) == 1


def test_findings_of_one_kind_are_shortened_in_text_only() -> None:
    """The first two are shown, the others counted."""
    many = Findings([FINDING] * 5, shortened=True)
    assert text.write([many]).splitlines()[-1] == "warning: the same of 3 more rounds"
    assert markdown.write([many]).count("a call took a second") == 5


IPV6 = "2001:db8:85a3:1234:5678:8a2e:1370:7334"
PATHS = Table(("path", "used", "free"), [(f"{IPV6} -> [{IPV6}]:443", "27,900", "332"), ("10.0.0.5", "1", "2")])


def test_a_table_shows_addresses_as_they_are() -> None:
    """A part such as `:1234:` is not replaced by the emoji that has this code."""
    assert text.render(PATHS).splitlines()[1].split() == [IPV6, "->", f"[{IPV6}]:443", "27,900", "332"]


def test_a_word_wider_than_its_column_stands_above_the_figures() -> None:
    """The figures stay in their columns, and the table within the width."""
    assert text.render(PATHS, 56).splitlines() == [
        "path        used  free",
        f"{IPV6} ->",
        f"  [{IPV6}]:443",
        "          27,900   332",
        "10.0.0.5       1     2",
    ]


def test_wide_characters_take_two_columns() -> None:
    """A name of Japanese characters does not push its figures to the right."""
    table = Table(("name", "n"), [("日本", "1"), ("abcdef", "2")])
    assert text.render(table).splitlines() == ["name    n", "日本    1", "abcdef  2"]
