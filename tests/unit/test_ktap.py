"""Results as tests: KTAP, read by the rules of the kernel's documentation and by tap.py."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from tap.parser import Parser

from connbench.analysis.comparison import compare
from connbench.analysis.fleet_summary import compare_fleets
from connbench.commands.reports import write_as
from connbench.errors import EnvironmentFault, Interrupted
from connbench.findings import UNSUPPORTED, Finding, Severity
from connbench.report.ktap import Outcome, comparison_ktap, document, fleet_comparison_ktap, ktap, skipped_document
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.result import Origin, Result
from connbench.thresholds import parse
from factories import BIND, PLAIN, WINDOW, result_of, round_of, samples_of

FAST, SLOW = round_of(samples_of([10_000] * 50)), round_of(samples_of([9_000_000] * 50))


@dataclass(frozen=True)
class Line:
    """A result line of KTAP.

    Attributes:
        notes: The diagnostic lines about it, without its name.
    """

    name: str
    is_ok: bool
    skipped: str = ""
    notes: tuple[str, ...] = ()


def read_ktap(text: str) -> list[Line]:
    """The results of a flat KTAP document, by https://docs.kernel.org/dev-tools/ktap.html.

    The kernel's own reader, tools/testing/kunit/kunit_parser.py, is in no package for Python; that of Linux 6.1 read
    such a text. tap.py reads it here, as KTAP is TAP but for its version line.

    Raises:
        AssertionError: The text is no KTAP, or tap.py reads another outcome.
    """
    assert text.endswith("\n")
    version, plan, *lines = text.splitlines()
    assert version == "KTAP version 1"
    planned = re.fullmatch(r"1\.\.(\d+)( # SKIP .+)?", plan)
    assert planned
    found: list[Line] = []
    notes: list[str] = []
    for line in lines:
        if line.startswith("#"):
            notes.append(line.removeprefix("# "))
            continue
        match = re.fullmatch(r"(not )?ok (\d+) ([^#]+?)(?: # SKIP (.+))?", line)
        assert match, line
        assert int(match[2]) == len(found) + 1
        own = tuple(note.removeprefix(f"{match[3]}: ") for note in notes if note.startswith(f"{match[3]}: "))
        found.append(Line(match[3], not match[1], match[4] or "", own))
        notes.clear()
    assert (len(found), notes) == (int(planned[1]), [])
    by_tap = [one for one in Parser().parse_text(text) if one.category == "test"]
    assert [(one.ok, one.skip) for one in by_tap] == [(one.is_ok, bool(one.skipped)) for one in found]
    return found


def outcomes(text: str) -> dict[str, bool]:
    """Whether each test passed, by its name."""
    return {line.name: line.is_ok for line in read_ktap(text)}


def test_each_condition_on_each_strategy_is_a_test() -> None:
    """Behind those that all was measured, and soundly; what failed says what was measured."""
    conditions = [parse("p99 > 5ms"), parse("window 500: errors > 1%"), parse("odd.p50 > 3x even.p50")]
    result = result_of({PLAIN: [FAST], WINDOW: [SLOW]})
    lines = read_ktap(ktap(result, conditions))
    assert [(line.name, line.is_ok) for line in lines] == [
        ("plain: measured", True),
        ("window 500: measured", True),
        ("sound", True),
        ("plain: not p99 > 5ms", True),
        ("plain: not odd.p50 > 3x even.p50", True),
        ("window 500: not p99 > 5ms", False),
        ("window 500: not errors > 1%", True),
        ("window 500: not odd.p50 > 3x even.p50", True),
    ]
    assert lines[0].notes == ("1 of 1 round complete",)
    assert lines[5].notes == ("measured 9ms",)
    assert "# connbench" in ktap(result)
    assert ", Linux 6.8.0-test, range 9024-65535, seed 1\n" in ktap(result)


def test_what_was_not_measured_fails() -> None:
    """A round that was cut short, one that is missing, and a condition on it; findings stand with `sound`."""
    cut_short = replace(FAST, number=2, fault=Interrupted(15))
    result = result_of({PLAIN: [FAST, cut_short], BIND: [FAST]})
    del result.rounds[BIND]
    result.known = (Finding("steal", Severity.INVALID, "stolen\n# SKIP", "run it elsewhere"),)
    lines = {line.name: line for line in read_ktap(ktap(result, [parse("p99 > 1s")]))}
    assert {name: line.is_ok for name, line in lines.items()} == {
        "plain: measured": False,
        "bind: measured": False,
        "sound": False,
        "plain: not p99 > 1s": True,
        "bind: not p99 > 1s": False,
    }
    assert lines["plain: measured"].notes == ("1 of 2 rounds complete", "round 2: stopped by SIGTERM")
    assert lines["bind: not p99 > 1s"].notes == ("cannot be judged: it was not measured",)
    assert lines["sound"].notes[0].startswith("invalid: steal: stolen")
    assert not any("partial" in note for note in lines["sound"].notes)


def test_what_the_kernel_lacks_is_skipped() -> None:
    """A strategy that was left out passes as skipped, with the reason; a machine that can nothing has no test."""
    known = (Finding(UNSUPPORTED, Severity.NOTE, "left out: needs #X", "boot another kernel", "range"),)
    [*_, skipped, sound] = read_ktap(ktap(result_of({PLAIN: [FAST]}, known=known)))
    assert (skipped.name, skipped.is_ok) == ("range: measured", True)
    assert skipped.skipped.startswith("left out: needs ")
    assert sound.notes == ()
    assert read_ktap(skipped_document("no namespaces # here")) == []


@pytest.mark.parametrize("name", ["a # SKIP b", "a\nnot ok 9 b", "ok", "#", " "])
def test_no_name_is_a_directive(name: str) -> None:
    """Whatever a file calls its strategy."""
    assert len(read_ktap(document([Outcome(name + "x", is_ok=False, notes=[name])], name))) == 1


def test_comparison_is_judged_with_its_base() -> None:
    """That the two compare is a test, as is each of them, and each condition; of a CSV it is not known."""
    rounds = [replace(FAST, number=number) for number in range(1, 6)]
    slower = [replace(SLOW, number=number) for number in range(1, 6)]
    base, new = (
        replace(result_of({PLAIN: some}), name=f"{name}.json") for some, name in ((rounds, "b"), (slower, "n"))
    )
    text = comparison_ktap(compare(base, new), [parse("slower", with_base=True), parse("p99 > 1s")])
    assert outcomes(text) == {
        "comparable": True,
        "BASE: sound": True,
        "NEW: sound": True,
        "plain: not slower": False,
        "plain: not p99 > 1s": True,
    }
    assert "# plain: not slower: the total time is 900x the base's\n" in text
    unknown = Result(None, {}, origin=Origin.CSV, rounds=base.rounds, name="b.csv")
    assert read_ktap(comparison_ktap(compare(unknown, new)))[0].skipped
    other = replace(new, plan=new.plan and replace(new.plan, connections=3))
    assert outcomes(comparison_ktap(compare(base, other)))["comparable"] is False


def test_hosts_stand_behind_their_names() -> None:
    """One that measured nothing fails, and is skipped if it was left out."""
    fault = EnvironmentFault("no ssh")
    fleet = Fleet(
        (
            HostRecord("web1", replace(result_of({PLAIN: [SLOW]}), name="web1"), None),
            HostRecord("web2", None, fault),
            HostRecord("web3", None, fault, left_out=True),
        )
    )
    lines = read_ktap(write_as(fleet, "ktap", [parse("p99 > 5ms")]))
    assert [(line.name, line.is_ok, line.skipped) for line in lines] == [
        ("web1: plain: measured", True, ""),
        ("web1: sound", True, ""),
        ("web1: plain: not p99 > 5ms", False, ""),
        ("web2: measured", False, ""),
        ("web3: measured", True, "no ssh"),
    ]


def test_hosts_of_two_fleets_are_compared() -> None:
    """By their names, each with its own base; one that NEW lacks fails."""
    fast, slow = ([replace(one, number=number) for number in range(1, 6)] for one in (FAST, SLOW))
    base, new = (
        Fleet(tuple(HostRecord(name, replace(result_of({PLAIN: some}), name=name), None) for name in names))
        for names, some in ((("a", "b"), fast), (("a",), slow))
    )
    compared = compare_fleets(base, new)
    assert outcomes(fleet_comparison_ktap(compared, [parse("slower", with_base=True)])) == {
        "a: comparable": True,
        "a: BASE: sound": True,
        "a: NEW: sound": True,
        "a: plain: not slower": False,
        "b: comparable": False,
    }
