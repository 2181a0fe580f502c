"""The talk's claims against made measurements in which they hold, and in which one at a time does not."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import replace

import numpy as np
import orjson
import pytest

from connbench.analysis.summary import summarize
from connbench.commands.reports import formats_of
from connbench.errors import Interrupted
from connbench.model import PortRange, StrategySpec
from connbench.reproduce import report as reproduction
from connbench.reproduce.cases import FULL_RANGE, QUICK_RANGE, Case, cases, published
from connbench.reproduce.claims import Claim, claims_of, speed_up, talk_speed_up
from connbench.reproduce.window_failures import expect_failures
from connbench.results.json_file import read_json
from connbench.results.result import Result, Round, Samples
from factories import PLAN, round_of, samples_of

PORTS = len(QUICK_RANGE)
CASES = cases(QUICK_RANGE)
BY_NAME = {(case.spec.name, case.spec.window): case for case in CASES if case.spec.name != "bind"}
PLAIN, BIND, RANDOM = CASES[:3]
RANGE = BY_NAME["range", None]
SHARED = CASES[-3:]
SOURCES = ("127.9.9.1", "127.9.9.2", "127.9.9.3")
WINDOWS = [case for case in CASES if case.spec.name == "window"]
FILLED = [case for case in CASES if case.spec.name == "partition"]
FAST, SLOW = 13_000, 93_000


def cliff(slow_ns: int = SLOW, odd_from: int = PORTS // 2) -> Samples:
    """All even ports at 13 µs, then all odd ones at `slow_ns`; those of one parity end after `odd_from` attempts."""
    even = [QUICK_RANGE.low + 2 * i for i in range(PORTS // 2)]
    odd = [port + 1 for port in even]
    ports = [*even[:odd_from], *odd, *even[odd_from:]]
    latency = [FAST if i < odd_from else slow_ns for i in range(PORTS)]
    return samples_of(latency, port=ports)


def drawn(errors: int = 0, odd_ns: int = FAST, error_ns: int = 20_000, even_ns: int = FAST) -> Samples:
    """One port after the other; the last `errors` attempts fail."""
    ports = [QUICK_RANGE.low + i for i in range(PORTS - errors)] + [0] * errors
    latency = [odd_ns if port % 2 else even_ns if port else error_ns for port in ports]
    return samples_of(latency, port=ports, errno=[0 if port else errno.EADDRNOTAVAIL for port in ports])


def random_draws(factor: float = 1.0) -> Samples:
    """As many tries as chance needs, times a factor."""
    tries = [max(1, round(factor * PORTS / (PORTS - i))) for i in range(PORTS)]
    return replace(drawn(), tries=np.array(tries, dtype="I"))


def as_the_talk_says() -> dict[StrategySpec, Samples]:
    """A measurement of each case in which every claim holds."""
    made: dict[StrategySpec, Samples] = {
        PLAIN.spec: cliff(),
        BIND.spec: cliff(),
        RANDOM.spec: random_draws(),
        RANGE.spec: drawn(),
    }
    for case in WINDOWS:
        errors = round(expect_failures(PORTS, case.spec.window or 0, PORTS).mean)
        made[case.spec] = drawn(errors, error_ns=FAST + 40 * (case.spec.window or 0))
    made |= {case.spec: shared(case) for case in SHARED}
    for case in FILLED:
        made[case.spec] = samples_of([FAST] * (case.spec.window or 0))
    return made


def shared(case: Case) -> Samples:
    """From several addresses: fast up to half of all their ports, then slow, and beyond all of them failures."""
    capacity, attempts = PORTS * (case.spec.load.sources or 0), case.spec.load.connections or 0
    latency = [FAST if i < capacity // 2 else SLOW for i in range(attempts)]
    return samples_of(
        latency,
        errno=[0 if i < capacity else errno.EADDRNOTAVAIL for i in range(attempts)],
        port=[QUICK_RANGE.low + i % PORTS if i < capacity else 0 for i in range(attempts)],
        source=[min(i, capacity - 1) // PORTS for i in range(attempts)],
    )


def result_of(made: dict[StrategySpec, Samples], ports: PortRange = QUICK_RANGE, **faulty: Round) -> Result:
    """A result of the quick run, or of one on other ports, with these measurements."""
    plan = replace(PLAN, sources=SOURCES, port_range=ports, connections=PORTS, strategies=tuple(made))
    rounds = {spec: [faulty.get(spec.name, round_of(samples))] for spec, samples in made.items()}
    return Result(plan, {"kernel": "6.8.0-test"}, (), rounds, is_reproduction=True)


def word(case: Case, result: Result) -> str:
    """Whether all claims of a case hold, as the table shows it."""
    [row] = [row for row in reproduction.document(result)["rows"] if row["strategy"] == case.spec.label]
    return {True: "holds", False: "differs", None: "-"}[row["holds"]]


def verdict(case: Case, **changed: Samples) -> str:
    """The verdict on a case, its measurement or those of other strategies replaced."""
    made = {spec: changed.get(spec.name, samples) for spec, samples in as_the_talk_says().items()}
    return word(case, result_of(made))


def claim_of(case: Case, result: Result, words: str) -> Claim:
    """The one claim of a case that contains these words."""
    [claim] = [claim for claim in claims_of(case, result) if words in claim.text]
    return claim


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.spec.label)
def test_every_claim_holds_where_it_is_as_the_talk_says(case: Case) -> None:
    """With a measurement like the talk's each row holds, and each row has a claim."""
    claims = claims_of(case, result_of(as_the_talk_says()))
    assert [claim.text for claim in claims if not claim.holds] == []
    assert len(claims) >= 2


@pytest.mark.parametrize(
    "changed",
    [cliff(slow_ns=2 * FAST), cliff(odd_from=PORTS // 2 - 200), drawn(errors=1)],
    ids=["flat", "early", "error"],
)
@pytest.mark.parametrize("case", [PLAIN, BIND], ids=["plain", "bind"])
def test_cliff_needs_a_slow_half_that_begins_at_half_without_an_error(case: Case, changed: Samples) -> None:
    """Plain and bind differ where odd ports cost little more, where the knee is elsewhere, or where one failed."""
    assert verdict(case, **{case.spec.name: changed}) == "differs"


@pytest.mark.parametrize(("slow_ns", "holds"), [(3 * FAST, False), (3 * FAST + 1, True)])
@pytest.mark.parametrize("case", [PLAIN, BIND], ids=["plain", "bind"])
def test_cliff_is_more_than_three_times(case: Case, slow_ns: int, holds: bool) -> None:
    """Odd ports that cost just 3 x even ones are no cliff; a nanosecond more makes one."""
    claim = claim_of(case, result_of({case.spec: cliff(slow_ns)}), "odd ports cost")
    assert claim.holds is holds


@pytest.mark.parametrize(
    "changed", [random_draws(2.0), random_draws(0.5), drawn(errors=3)], ids=["many", "few", "errors"]
)
def test_random_needs_8_to_12_tries_near_exhaustion(changed: Samples) -> None:
    """Random differs where many more or fewer draws are needed at 90 % of the range, or where one failed."""
    assert verdict(RANDOM, random=changed) == "differs"


def test_random_needs_to_be_faster_than_plain() -> None:
    """A random port that costs as much as plain's search is not the talk's."""
    assert verdict(RANDOM, random=replace(random_draws(), connect_ns=np.full(PORTS, SLOW))) == "differs"


@pytest.mark.parametrize("case", WINDOWS, ids=lambda case: case.spec.label)
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_window_needs_the_errors_the_model_expects(case: Case, factor: float) -> None:
    """Half or twice the errors are not those of random windows."""
    errors = round(factor * expect_failures(PORTS, case.spec.window or 0, PORTS).mean)
    made = as_the_talk_says() | {case.spec: drawn(errors)}
    assert [claim.holds for claim in claims_of(case, result_of(made)) if "errors;" in claim.text] == [False]


def test_longer_window_needs_to_cost_no_less() -> None:
    """The windows are ordered: a longer one that is clearly cheaper than the next shorter one differs."""
    longer = WINDOWS[1]
    made = as_the_talk_says()
    made[longer.spec] = replace(made[longer.spec], connect_ns=made[longer.spec].connect_ns // 2)
    assert [claim.holds for claim in claims_of(longer, result_of(made)) if "total time of" in claim.text] == [False]


@pytest.mark.parametrize("factor", [0.9 - 1e-3, 0.9, 0.7, 0.7 - 1e-3])
@pytest.mark.parametrize(("ports", "least"), [(QUICK_RANGE, 0.7), (FULL_RANGE, 0.9)], ids=["quick", "full"])
def test_longer_window_may_be_cheaper_by_chance(ports: PortRange, least: float, factor: float) -> None:
    """At the limit, which is wider for fewer ports, a longer window passes; below it differs."""
    shorter, longer = WINDOWS[:2]
    made = {shorter.spec: samples_of([100_000] * 100), longer.spec: samples_of([round(100_000 * factor)] * 100)}
    claim = claim_of(longer, result_of(made, ports), "x the total time of")
    assert claim.holds is (factor >= least)
    assert claim.text.endswith(f"; at least {least:g} x is expected")


def test_window_is_compared_with_the_next_shorter_one() -> None:
    """Of several shorter windows the longest counts, in whatever order they stand."""
    first, second, third, longest = WINDOWS
    totals = {third: 50_000, longest: 90_000, first: 10_000, second: 100_000}
    result = result_of({case.spec: samples_of([ns] * 100) for case, ns in totals.items()})
    claims = {case: claim_of(case, result, "x the total time of") for case in (second, third, longest)}
    assert [claim.text.partition(";")[0] for claim in claims.values()] == [
        f"10.00 x the total time of {first.spec.label}",
        f"0.50 x the total time of {second.spec.label}",
        f"1.80 x the total time of {third.spec.label}",
    ]
    assert [claim.holds for claim in claims.values()] == [True, False, True]
    assert not any("total time" in claim.text for claim in claims_of(first, result))


@pytest.mark.parametrize(
    ("even_ns", "odd_ns", "holds"),
    [
        (FAST, FAST // 2, False),
        (FAST, 2 * FAST, False),
        (10_000, 12_499, True),
        (10_000, 12_501, False),
        (12_499, 10_000, True),
        (12_501, 10_000, False),
    ],
)
@pytest.mark.parametrize("case", [*WINDOWS, RANGE], ids=lambda case: case.spec.label)
def test_window_and_range_need_parities_alike(case: Case, even_ns: int, odd_ns: int, holds: bool) -> None:
    """A window or range that is faster on one parity, by more than a quarter, has the search before Linux 6.8."""
    claims = claims_of(case, result_of({case.spec: drawn(even_ns=even_ns, odd_ns=odd_ns)}))
    assert [claim.holds for claim in claims if "the median of odd ports" in claim.text] == [holds]


@pytest.mark.parametrize("case", FILLED, ids=lambda case: case.spec.label)
def test_filled_range_needs_every_port(case: Case) -> None:
    """One port of a filled range that was not taken is one too many."""
    window = case.spec.window or 0
    made = as_the_talk_says() | {case.spec: samples_of([FAST] * window, errno=[*[0] * (window - 1), 99])}
    assert word(case, result_of(made)) == "differs"


@pytest.mark.parametrize(("moved", "holds"), [(0, True), (1, False)], ids=["half each", "two apart"])
@pytest.mark.parametrize("case", FILLED, ids=lambda case: case.spec.label)
def test_filled_range_has_half_of_each_parity(case: Case, moved: int, holds: bool) -> None:
    """Ports of a range differ by one at most in parity: a further port was taken twice, or lies outside."""
    window = case.spec.window or 0
    ports = [QUICK_RANGE.low + i for i in range(window)]
    ports[1] -= moved
    claim = claim_of(case, result_of({case.spec: samples_of([FAST] * window, port=ports)}), " even, ")
    assert claim.holds is holds


@pytest.mark.parametrize("case", FILLED, ids=lambda case: case.spec.label)
def test_filled_range_of_an_odd_number_of_ports_is_whole(case: Case) -> None:
    """Where one parity has one port more, every port may have been taken."""
    ports = [QUICK_RANGE.low + i for i in range((case.spec.window or 0) // 2 * 2 + 1)]
    claim = claim_of(case, result_of({case.spec: samples_of([FAST] * len(ports), port=ports)}), "every port was taken")
    assert claim.holds


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.spec.label)
def test_shared_connections_turn_slow_at_half_of_all_ports(case: Case) -> None:
    """With N addresses there are N halves: a knee elsewhere, or an error while ports are free, is not the talk's."""
    right = shared(case)
    capacity, attempts = PORTS * (case.spec.load.sources or 0), case.spec.load.connections or 0
    early = np.where(np.arange(attempts) < capacity // 4, FAST, SLOW)
    failing = right.errno.copy()
    failing[0] = errno.EADDRNOTAVAIL
    for wrong in (replace(right, connect_ns=early), replace(right, errno=failing)):
        assert word(case, result_of(as_the_talk_says() | {case.spec: wrong})) == "differs"


def test_partial_or_missing_row_is_not_judged() -> None:
    """A row that was cut short or never measured proves nothing either way."""
    made = as_the_talk_says()
    partial = result_of(made, plain=round_of(made[PLAIN.spec], fault=Interrupted(2)))
    assert word(PLAIN, partial) == "-"
    del made[PLAIN.spec]
    assert claims_of(PLAIN, result_of(made)) == ()
    assert "plain" not in " ".join(claim.text for claim in claims_of(RANGE, result_of(made)))


def test_unsound_row_is_not_judged() -> None:
    """The figures of a listener that dropped SYNs get no verdict; those of the other rows do."""
    made = as_the_talk_says()
    sound = round_of(made[PLAIN.spec])
    overflow = replace(sound.report, counters={"TcpExt.ListenOverflows": 1})
    result = result_of(made, plain=replace(sound, report=overflow))
    assert word(PLAIN, result) == "-"
    assert word(BIND, result) == "holds"


def test_full_cases_are_the_talks() -> None:
    """In full the windows are the talk's, and each run of the talk stands beside one of connbench."""
    full = cases(FULL_RANGE)
    assert [case.spec.label for case in full] == [
        "plain",
        "bind",
        "random",
        "window 500",
        "window 1000",
        "window 5000",
        "window 10000",
        "partition 1000, n=1000",
        "partition 5000, n=5000",
        "range",
        "bind, n=70000",
        "bind, 2 sources, n=70000",
        "bind, 3 sources, n=70000",
    ]
    assert {case.published for case in full} - {None} == set(published())
    assert len(FULL_RANGE) == published()["plain"].attempts == 56512
    assert [published()[c.published].attempts for c in full if c.published and c.spec.load.connections] == [1000, 5000]


def test_published_figures_agree_with_themselves() -> None:
    """In each of the talk's runs, even, odd and failed attempts add up to all, and the averages to the total time."""
    for run in published().values():
        assert run.even.count + run.odd.count + run.errored == run.attempts
        made = run.even.count * run.even.mean_ns + run.odd.count * run.odd.mean_ns
        assert made <= run.total_ns * 1.01
        if not run.errored:
            assert made == pytest.approx(run.total_ns, rel=0.02)


def test_speed_up_needs_a_whole_plain() -> None:
    """Beside a plain of which one round was cut short, a row has no speed-up, nor a claim about one."""
    made = as_the_talk_says()
    result = result_of(made)
    summary = summarize(next(s for s in result.strategies if s.strategy == RANGE.spec))
    assert speed_up(summary, result) is not None
    result.add(PLAIN.spec, round_of(samples_of([SLOW] * 10), 2, Interrupted(2)))
    assert speed_up(summary, result) is None
    assert not any("as fast as plain" in claim.text for claim in claims_of(RANGE, result))


def test_speed_up_is_per_attempt() -> None:
    """Rows of fewer attempts are compared by the cost of an attempt; the talk's by the same rule."""
    made = as_the_talk_says()
    result = result_of(made)
    strategies = {s.strategy: s for s in result.strategies}
    for case in FILLED:
        assert speed_up(summarize(strategies[case.spec]), result) == pytest.approx((FAST + SLOW) / 2 / FAST)
    assert talk_speed_up(WINDOWS[0]) == pytest.approx(130.494 / 1.875)
    assert talk_speed_up(FILLED[0]) == pytest.approx(130.494 / 56512 / (0.127 / 1000))


def table_of(printed: str) -> list[str]:
    """The heading and the rows."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("errors  total time"))
    return lines[start : lines.index("", start)]


def test_rows_line_up_below_their_heading_within_80_columns() -> None:
    """Every row, the talk's too, has its figures below the heading, and none is wide."""
    heading, *lines = table_of(reproduction.report(result_of(as_the_talk_says())))
    assert len(lines) == 13 + 9
    assert all(len(line) <= 80 for line in (heading, *lines))
    for end in (heading.index(name) + len(name) for name in ("errors", "total time", "speed-up", "even mean")):
        assert all(line[end - 1] != " " and line[end] == " " for line in lines)
    assert lines[0].startswith("plain  ")
    assert lines[0].endswith("  holds")


def test_verdict_stands_first() -> None:
    """The first lines say that the claims hold, what plain takes, and what a window and the range take instead."""
    result = result_of(as_the_talk_says())
    verdict = reproduction.verdict(result)
    told = reproduction.report(result).splitlines()
    assert told[: len(verdict)] == [f"verdict: {verdict[0]}", *verdict[1:]]
    assert told[-1] == "All 37 claims hold; the verdict is above the table"
    errors = round(expect_failures(PORTS, 36, PORTS).mean)
    assert list(verdict[:3]) == [
        "All 37 claims of the talk 'connect() - why you so slow?' hold on Linux 6.8.0-test.",
        (
            "plain takes 217 ms for 4,096 connections, and an odd port costs 7.15 x an even one "
            "(the talk: 130 s for 56,512, 184 x)."
        ),
        (
            f"window 36 takes 53.6 ms (4.05 x as fast as plain), and {errors / PORTS:.1%} of its connections fail; "
            "range takes 53.2 ms (4.08 x as fast as plain), and no connection fails."
        ),
    ]
    assert "without --quick" in verdict[3]
    in_full = reproduction.verdict(result_of({PLAIN.spec: cliff()}, FULL_RANGE))
    assert not any("--quick" in sentence for sentence in in_full)


def test_verdict_names_what_does_not_hold() -> None:
    """The claims that do not hold here stand in the first sentence, the first three of them in full."""
    made = as_the_talk_says() | {RANGE.spec: drawn(errors=2)}
    [first, *_] = reproduction.verdict(result_of(made))
    assert first.startswith("36 of 37 claims of the talk")
    assert first.endswith("These differ: range: 2 connections failed.")
    made |= {PLAIN.spec: drawn(), BIND.spec: drawn()}
    [first, *_] = reproduction.verdict(result_of(made))
    assert first.count("plain: ") == 2
    assert re.search(
        r"These differ: plain: odd ports cost 1 x even ones; more than 3 x is expected .*; and \d+ more\.$", first
    )


def test_claims_are_reported_one_a_line_and_folded_to_the_terminal() -> None:
    """Each claim begins with whether it holds and whose it is; a narrow terminal folds it."""
    made = as_the_talk_says() | {RANGE.spec: drawn(errors=2)}
    told = reproduction.report(result_of(made))
    assert "differs  range: 2 connections failed" in told.splitlines()
    assert "holds    plain: no connection failed" in told.splitlines()
    narrow = reproduction.report(result_of(made), 60)
    assert all(len(line) <= 60 for line in narrow.splitlines() if line not in table_of(narrow))


@pytest.mark.parametrize("number", [0, 1, 3])
def test_rows_that_are_not_judged_are_named(number: int) -> None:
    """The verdict says which rows prove nothing, so that few claims do not look like all."""
    made = as_the_talk_says()
    cut = [case.spec.name for case in (RANDOM, RANGE, BIND)[:number]]
    result = result_of(made)
    for spec in [spec for spec in made if spec.name in cut]:
        result.rounds[spec] = [round_of(made[spec], fault=Interrupted(2))]
    first = reproduction.verdict(result)[0]
    names = ["random", "range", *["bind", *(f"bind, {n} source{'s' * (n > 1)}" for n in (1, 2, 3))]]
    expected = {0: [], 1: ["random"], 3: ["bind", "random", "range", *names[3:]]}[number]
    assert first.partition(" Not judged: ")[2] == (f"{'; '.join(expected)}." if expected else "")
    assert (" judged claims of the talk" in first) == bool(expected)
    last = reproduction.report(result).splitlines()[-1]
    assert (" judged claims hold; " in last) == bool(expected)
    cut_short = "Next: the run was cut short; run it again for the rest."
    assert (cut_short in reproduction.verdict(result)) == bool(expected)


def test_nothing_judged_is_said() -> None:
    """Where no row is whole and sound, no claim holds or fails."""
    made = {PLAIN.spec: cliff()}
    [only] = reproduction.verdict(result_of(made, plain=round_of(cliff(), fault=Interrupted(2))))
    assert "could be judged" in only


def test_document_has_each_claim_with_its_limits() -> None:
    """Programs get what was measured, what is expected, and the talk's value, claim by claim as the text has them."""
    made = as_the_talk_says() | {RANGE.spec: drawn(errors=2)}
    result = result_of(made)
    document = json.loads(reproduction.json(result))
    assert (document["claims_that_hold"], len(document["claims"])) == (36, 37)
    claims = {(claim["row"], claim["figure"]): claim for claim in document["claims"]}
    assert claims["plain", "odd_to_even_mean_ratio"] == {
        "row": "plain",
        "figure": "odd_to_even_mean_ratio",
        "holds": True,
        "measured": SLOW / FAST,
        "expected": {"at_least": None, "at_most": None, "more_than": 3.0},
        "talk": pytest.approx(4.593 / 0.025),
        "text": "odd ports cost 7.15 x even ones (the talk: 184 x)",
    }
    assert claims["range", "errors"] | {"text": ""} == {
        "row": "range",
        "figure": "errors",
        "holds": False,
        "measured": 2,
        "expected": {"at_least": None, "at_most": 0, "more_than": None},
        "talk": None,
        "text": "",
    }
    assert [row["row"] for row in document["rows"]][:4] == ["plain", "bind", "random", "window 36"]
    plain = document["rows"][0]
    assert (plain["total_ns"], plain["even_mean_ns"], plain["talk"]["total_ns"]) == (
        PORTS // 2 * (FAST + SLOW),
        FAST,
        pytest.approx(130.494e9),
    )
    assert document["verdict"] == list(reproduction.verdict(result))
    told = reproduction.report(result).splitlines()
    for claim in document["claims"]:
        assert f"{'holds' if claim['holds'] else 'differs':<8} {claim['row']}: {claim['text']}" in told


def test_figure_without_a_connection_is_null() -> None:
    """A kernel that gave even ports alone has no odd mean and no ratio: the claim does not hold, and no figure is 0."""
    evens = samples_of([FAST] * 100, port=[QUICK_RANGE.low + 2 * i for i in range(100)])
    result = result_of({RANGE.spec: evens})
    row = json.loads(reproduction.json(result))["rows"][0]
    assert (row["odd_mean_ns"], row["even_mean_ns"]) == (None, FAST)
    claim = claim_of(RANGE, result, "both parities")
    assert (claim.measured, claim.holds) == (None, False)


def test_file_records_that_it_is_a_reproduction() -> None:
    """The file that -o saves reads back as one, with the same verdict; a run's file is none."""
    result = result_of(as_the_talk_says())
    text = formats_of(result)["json"](result)
    assert json.loads(text)["reproduction"] == json.loads(orjson.dumps(reproduction.document(result)))
    back = read_json(text.encode(), "talk.json")
    assert back.is_reproduction
    assert reproduction.verdict(back) == reproduction.verdict(result)
    run = formats_of(replace(result, is_reproduction=False))["json"](result)
    assert json.loads(run)["reproduction"] is None
    assert not read_json(run.encode(), "run.json").is_reproduction


def test_the_talks_range_is_reported_where_it_is_another() -> None:
    """The quick run stands beside figures of fourteen times as many ports, and says so; the full one does not."""
    assert "range 9024-13119 (the talk: 9024-65535)," in reproduction.report(result_of(as_the_talk_says()))
    assert "(the talk: 9024-65535)" not in reproduction.report(result_of({}, FULL_RANGE))


def test_picture_has_a_pair_of_bars_for_what_the_talk_published() -> None:
    """How much odd ports cost is first, then each strategy's speed-up; measured and published stand side by side."""
    result = result_of(as_the_talk_says())
    picture = reproduction.picture(result)
    assert picture
    here, talk = picture.figure["data"]
    assert here["y"] == talk["y"]
    assert here["y"][0].startswith("plain")
    assert here["x"][0] == pytest.approx(SLOW / FAST)
    assert talk["x"][0] == pytest.approx(published()["plain"].odd_to_even)
    assert (here["meta"], talk["meta"]) == ({"muted": False}, {"muted": True})
    window = next(case for case in WINDOWS if case.published)
    place = f"window {window.spec.window}: plain / this"
    summary = summarize(next(s for s in result.strategies if s.strategy == window.spec))
    assert here["x"][here["y"].index(place)] == speed_up(summary, result)
    assert talk["x"][talk["y"].index(place)] == talk_speed_up(window)


def test_page_mutes_the_talks_rows_and_folds_claims_that_all_hold() -> None:
    """The measured rows stand out; the list of claims is long, and folded where all of them hold."""
    table, claims = reproduction.tables(result_of(as_the_talk_says()))
    assert table.muted
    assert all(("the talk" in row[0]) == (place in table.muted) for place, row in enumerate(table.rows))
    assert claims.folded == f"All {len(claims.rows)} claims hold: show each"
    _, claims = reproduction.tables(result_of({**as_the_talk_says(), PLAIN.spec: drawn()}))
    assert claims.folded is None


def test_each_claim_is_a_test_of_ktap() -> None:
    """Behind those of a run: one that does not hold has failed, and those of a row without a verdict are skipped."""
    made = as_the_talk_says() | {BIND.spec: cliff(odd_from=PORTS // 4)}
    result = result_of(made, range=Round(1, drawn(), fault=Interrupted(15)))
    text = formats_of(result)["ktap"](result)
    lines = [re.sub(r"ok \d+ ", "ok ", line) for line in text.splitlines()]
    assert {"ok plain: measured", "not ok range: measured", "ok sound"} <= set(lines)
    assert "ok plain: claim odd_to_even_mean_ratio" in lines
    assert lines[lines.index("not ok bind: claim connections_before_knee") - 1].startswith(
        "# bind: claim connections_before_knee: the knee is at connection 1,0"
    )
    assert "ok range: claims # SKIP the row was not measured whole, or not soundly" in lines
