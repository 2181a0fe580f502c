"""Findings as reports show them: those of one kind together."""

from __future__ import annotations

from dataclasses import replace

from connbench.findings import MAX_MESSAGES, Finding, Severity, merge_alike

SLOW = Finding("slow", Severity.WARNING, "it was slow", "wait")


def test_the_same_of_several_strategies_and_rounds_is_reported_once() -> None:
    """The report names every strategy and round of the finding, in the order of the first."""
    found = [
        replace(SLOW, strategy="plain", round=1),
        Finding("other", Severity.NOTE, "all is well", "go on"),
        replace(SLOW, strategy="bind", round=2),
        replace(SLOW, strategy="plain", round=2),
        replace(SLOW, strategy="plain", round=3),
    ]
    assert [one.text for one in merge_alike(found)] == [
        "plain, rounds 1, 2 and 3 and bind, round 2: it was slow",
        "all is well",
    ]
    assert [one.advice for one in merge_alike(found)] == ["wait", "go on"]


def test_what_is_about_all_names_nobody() -> None:
    """A finding of the whole run is unchanged."""
    assert merge_alike([SLOW]) == [SLOW]


def test_other_figures_of_one_kind_follow_each_other_and_many_are_counted() -> None:
    """The report shows three messages in full."""
    found = [replace(SLOW, message=f"{number} were slow", strategy="plain", round=number) for number in range(1, 6)]
    [one] = merge_alike(found)
    assert one.text == (
        "plain, round 1: 1 were slow; plain, round 2: 2 were slow; plain, round 3: 3 were slow; and 2 more of the kind"
    )
    assert MAX_MESSAGES == 3


def test_another_severity_or_advice_is_another_finding() -> None:
    """The advice differs: the findings stay apart."""
    others = [SLOW, replace(SLOW, severity=Severity.INVALID), replace(SLOW, advice="do not wait")]
    assert merge_alike(others) == others
