"""A sweep: its lists, its product, its cheapest setting, and its report."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.sweep_analysis import Cell, Standing, Sweep, is_sweep, setting_and_load
from connbench.commands.options import BUDGET, DEFAULT_BUDGET, RUN_OPTIONS, SWEEP_LISTS, SWEEP_OPTIONS
from connbench.commands.reports import variants_of
from connbench.commands.result_writer import PrintoutAtEnd, ResultWriter
from connbench.commands.values import count, load_type, parse_values, parse_words
from connbench.errors import Interrupted, UsageError
from connbench.model import LOAD_FIELDS, Churn, Close, Link, Load, Phase, Placement, PortRange, RoundPlan, StrategySpec
from connbench.planner import sweeps as sweeping
from connbench.planner.request import RunRequest
from connbench.planner.workload import choose_strategies
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import simulate
from connbench.portmodel.variants import Variant
from connbench.report import run_report
from connbench.report import sweep_report as report
from connbench.report.formats import FORMATS
from connbench.report.html.figures import of_sweep
from connbench.report.sweep_report import Names, budget_for, format_error_share, markdown, verdict
from connbench.reproduce.cases import FULL_RANGE, cases
from connbench.results.csv_file import csv_rows, read_csv
from connbench.results.output_file import Output
from connbench.results.result import Result, Round, Samples
from connbench.thresholds import applies_to, parse
from connbench.units import (
    COUNT_FORM,
    PERCENT_FORM,
    RATE_FORM,
    TIME_FORM,
    parse_count,
    parse_percent,
    parse_rate,
    parse_time,
)
from factories import PLAIN, PLAN, WINDOW, result_of, round_of, samples_of, unhurried

HUNDRED = PortRange(40000, 40099)
HALF, FULL = Load(fill=0.5), Load(fill=0.95)
SMALL, LARGE = replace(WINDOW, window=100), replace(WINDOW, window=1000)

Reader = Callable[[str], int | Decimal]
Cells = Mapping[tuple[StrategySpec, Load], tuple[int, float]]


def attempts(acquire_us: int, error_share: float = 0.0) -> Samples:
    """A hundred attempts of one acquire time, of which this many fail."""
    failed = round(error_share * 100)
    return samples_of([acquire_us * 1000 - 1000] * 100, errno=[errno.EADDRNOTAVAIL] * failed + [0] * (100 - failed))


def swept(cells: Cells, number: int = 1) -> Result:
    """Settings and loads, each with its acquire time in µs and share of errors, the same every round."""
    return result_of(
        {
            replace(setting, load=load): [round_of(attempts(*cell), i + 1) for i in range(number)]
            for (setting, load), cell in cells.items()
        }
    )


def said(result: Result, budget: float = 0.01, variants: Sequence[Variant] = ()) -> tuple[str, ...]:
    """The verdict on a sweep."""
    sweep = Sweep.of(result)
    return verdict(sweep, Names.of(sweep.loads, sweep.settings), budget, variants)


def chosen(found: Standing | Cell | None) -> StrategySpec:
    """The setting of a choice."""
    assert found
    return found.setting


TWO_BY_TWO: Cells = {
    (SMALL, HALF): (20, 0.0),
    (LARGE, HALF): (18, 0.0),
    (SMALL, FULL): (40, 0.01),
    (LARGE, FULL): (30, 0.07),
}


def milliseconds(text: str) -> Decimal:
    """A time in ms."""
    return parse_time(text, "ms")


READERS: dict[str, tuple[Reader, str]] = {
    "count": (parse_count, COUNT_FORM),
    "share": (parse_percent, PERCENT_FORM),
    "rate": (parse_rate, RATE_FORM),
    "time": (milliseconds, TIME_FORM),
}


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("500", "count", [500]),
        ("100,250, 500", "count", [100, 250, 500]),
        ("10k,1e4,20k", "count", [10_000, 20_000]),
        ("1k-2k:500", "count", [1000, 1500, 2000]),
        ("100-500:200", "count", [100, 300, 500]),
        ("100-400:200", "count", [100, 300]),
        ("1,500", "count", [1, 500]),
        ("0,1,2", "count", [0, 1, 2]),
        ("50%,70%-90%:10%", "share", [Decimal("0.5"), Decimal("0.7"), Decimal("0.8"), Decimal("0.9")]),
        ("0.1-0.3:0.1", "rate", [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")]),
        ("100/s-200/s:100/s", "rate", [100, 200]),
        ("1ms-2ms:500us,5", "time", [1, Decimal("1.5"), 2, 5]),
        ("1e-3-3e-3:1e-3", "time", [Decimal("0.001"), Decimal("0.002"), Decimal("0.003")]),
        ("1e-3", "time", [Decimal("0.001")]),
        ("3,1,3,1-3:1", "count", [3, 1, 2]),
        ("7-7:5", "count", [7]),
    ],
)
def test_lists_are_read(text: str, kind: str, values: list[Decimal]) -> None:
    """Values with units, ranges with a step up to their end, each value once and in the order given."""
    assert list(parse_values(text, "--window", *READERS[kind])) == values


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", "count", "'' is not a whole number"),
        ("1,,2", "count", "'' is not a whole number"),
        ("many", "count", "'many' is not a whole number"),
        ("-5", "count", "'-5' is not a whole number"),
        ("1-2-3:1", "count", "'1-2-3:1' is not a whole number"),
        ("\u0661", "count", "is not a whole number"),
        ("50", "share", "'50' is not a share"),
        ("50%-90", "share", "'50%-90' is not a share"),
        ("50%-90%", "share", "range 50%-90% has no step"),
        ("90%-50%:5%", "share", "range 90%-50%:5% is reversed"),
        ("1-9:0", "count", "has a step of 0"),
        ("1-1000000:1", "count", "1,000,000 are too many"),
        ("0-1e29:1", "count", "are too many"),
        (",".join(map(str, range(1, 1002))), "count", "1,001 are too many"),
    ],
)
def test_what_is_no_list_is_refused(text: str, kind: str, message: str) -> None:
    """The message names the option and the fault."""
    with pytest.raises(UsageError, match=r"--fill ") as caught:
        parse_values(text, "--fill", *READERS[kind])
    assert message in caught.value.message
    assert caught.value.hint


def test_a_comma_in_a_list_sets_no_thousands_apart() -> None:
    """1,000 is one number for `run`; as a list it would be 1 and 0: refused with what to write."""
    assert count().read("1,000", "-n") == 1000
    with pytest.raises(UsageError, match="000 is not a value") as caught:
        parse_values("1,000", "-n", parse_count, COUNT_FORM)
    assert caught.value.hint == "write 1,000 as 1000 or 1k"


@unhurried
@given(st.integers(0, 1000), st.integers(1, 50), st.integers(0, 100), st.integers(0, 49))
def test_a_range_is_the_list_of_its_steps(low: int, step: int, steps: int, rest: int) -> None:
    """A range means the same as its values written out, and the remainder of its last step adds nothing."""
    high = low + step * steps + rest % step
    values = parse_values(f"{low}-{high}:{step}", "--window", parse_count, COUNT_FORM)
    written_out = ",".join(str(low + step * i) for i in range(steps + 1))
    assert values == parse_values(written_out, "--window", parse_count, COUNT_FORM)


@unhurried
@given(st.lists(st.decimals(0, 10_000, places=2), min_size=1, max_size=20))
def test_a_list_comes_back_as_it_was_written(values: list[Decimal]) -> None:
    """A list that is written out and read again is the same, each value once."""
    read = parse_values(",".join(map(str, values)), "--churn-rate", parse_rate, RATE_FORM)
    assert read == tuple(dict.fromkeys(values))
    assert parse_values(",".join(map(str, read)), "--churn-rate", parse_rate, RATE_FORM) == read


def test_words_are_read_and_unknown_ones_refused() -> None:
    """Words by commas, each once; a similar one is suggested."""
    assert parse_words("rst, fin,rst", "--close", ["rst", "fin"]) == ("rst", "fin")
    with pytest.raises(UsageError, match="--close 'rst,kill': 'kill' is unknown"):
        parse_words("rst,kill", "--close", ["rst", "fin"])
    with pytest.raises(UsageError) as caught:
        parse_words("rst,fn", "--close", ["rst", "fin"])
    assert caught.value.hint == "did you mean fin?"


FILL = next(field for field in LOAD_FIELDS if field.name == "fill")


@given(st.integers(1, 1000))
def test_a_share_is_the_same_in_run_and_sweep(tenths: int) -> None:
    """Else the same fill of a run and of a sweep were two loads, and 7 errors in 1,000 beyond a budget of 0.7%."""
    text = f"{tenths / 10:g}%"
    [of_sweep] = load_type(FILL, is_list=True).convert(text, None, None)
    assert of_sweep == load_type(FILL).convert(text, None, None) == BUDGET.read(text, "--error-budget") == tenths / 1000


@pytest.mark.parametrize("text", ["nan%", "inf%", "1e999%", "1e99999999%", "half%", "5%%", "%"])
def test_a_share_is_a_number(text: str) -> None:
    """The message names what is no share."""
    with pytest.raises(UsageError, match=r"is not a share"):
        load_type(FILL).convert(text, None, None)


def test_budget_is_a_share() -> None:
    """An error budget is 0% to 100%, with its sign."""
    assert BUDGET.read(DEFAULT_BUDGET, "--error-budget") == 0.01
    assert BUDGET.read("0%", "--error-budget") == 0
    for text in ("1", "-1%", "101%", "nan%", "few"):
        with pytest.raises(UsageError, match="--error-budget"):
            BUDGET.read(text, "--error-budget")


def test_product_has_every_combination_once() -> None:
    """A strategy without a window is there once a load, whatever the windows; compared settings run side by side."""
    base = RunRequest(strategies=("plain", "window"), port_range=HUNDRED)
    requests = sweeping.sweep_requests(base, {"window": (10, 20), "fill": (0.5, 0.9)})
    specs = choose_strategies(requests[0], HUNDRED, requests[1:])
    assert [(spec.name, spec.window, spec.load.fill) for spec in specs] == [
        ("plain", None, 0.5),
        ("window", 10, 0.5),
        ("window", 20, 0.5),
        ("plain", None, 0.9),
        ("window", 10, 0.9),
        ("window", 20, 0.9),
    ]


def test_churn_is_swept_over_the_range() -> None:
    """Without a fill or a number of connections the sweep churns at each 5 % of the range, from its half on."""
    requests = sweeping.sweep_requests(RunRequest(), {"churn": (100,)})
    assert [request.fill for request in requests] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert {request.strategies for request in requests} == {("window",)}
    assert len(sweeping.sweep_requests(RunRequest(), {"churn": (100, 200), "connections": (50,)})) == 2


def test_nothing_to_sweep_and_too_much() -> None:
    """A sweep of one combination is a run, and one of a thousand a mistake."""
    with pytest.raises(UsageError, match="nothing to sweep"):
        sweeping.sweep_requests(RunRequest(strategies=("window",)), {"window": (500,), "fill": ()})
    with pytest.raises(UsageError, match="1,600 combinations are too many"):
        sweeping.sweep_requests(RunRequest(), {"window": tuple(range(1, 41)), "concurrency": tuple(range(1, 41))})


def test_a_sweep_says_how_much_it_is() -> None:
    """Combinations, rounds and attempts, those of churn too."""
    specs = tuple(replace(WINDOW, load=Load(fill=fill, churn=Churn(10))) for fill in (0.5, 0.9))
    plan = replace(PLAN, strategies=specs, rounds=3, port_range=HUNDRED)
    assert sweeping.announcement(plan) == (
        "2 combinations of setting and load, 3 rounds each: 6 turns, 480 attempts in all"
    )


def test_options_of_run_stay_in_place() -> None:
    """A sweep has every option of run, in its order, and every list has its place."""
    mine = SWEEP_OPTIONS[: len(RUN_OPTIONS)]
    assert [option.name for option in mine] == [option.name for option in RUN_OPTIONS]
    assert [option for option in mine if option in SWEEP_LISTS.values()] == [
        SWEEP_LISTS[option.name] for option in RUN_OPTIONS if option.name in SWEEP_LISTS
    ]
    assert set(SWEEP_LISTS) <= {option.name for option in RUN_OPTIONS}


def test_setting_and_load_are_distinguished() -> None:
    """What a client chooses belongs to its setting, what is asked of it to the load."""
    load = Load(fill=0.8, sources=2, concurrency=3, give_up_ms=5, churn=Churn(7))
    setting, rest = setting_and_load(replace(WINDOW, load=load, phase=Phase.CHURN))
    assert setting == replace(WINDOW, load=Load(sources=2, give_up_ms=5))
    assert rest == Load(fill=0.8, concurrency=3, churn=Churn(7))


def test_cheapest_keeps_the_budget_at_every_load() -> None:
    """A setting that is over the budget at one load is out, however cheap; a single load may have another answer."""
    sweep = Sweep.of(swept(TWO_BY_TWO))
    small, large = setting_and_load(SMALL)[0], setting_and_load(LARGE)[0]
    assert [(one.setting, one.worst_share, one.worst_load) for one in sweep.standings] == [
        (large, 0.07, FULL),
        (small, 0.01, FULL),
    ]
    assert [one.cost_ns for one in sweep.standings] == pytest.approx(
        [(18_000 + 30_000 / 0.93) / 2, (20_000 + 40_000 / 0.99) / 2]
    )
    assert chosen(sweep.cheapest(0.01)) == small
    assert chosen(sweep.cheapest(0.07)) == large
    assert chosen(sweep.cheapest_at(HALF, 0.01)) == large
    assert chosen(sweep.cheapest_at(FULL, 0.01)) == small
    assert sweep.cheapest(0.001) is None
    assert [one.setting for one in sweep.cheaper_beyond(0.001)] == [small, large]
    assert [one.setting for one in sweep.cheaper_beyond(0.01)] == [large]
    assert sweep.cheaper_beyond(0.07) == []


def test_failing_fast_makes_nothing_cheap() -> None:
    """With half the attempts failed each connection costs twice as much; without any there is no cost to rank by."""
    sweep = Sweep.of(swept({(SMALL, HALF): (20, 0.5), (LARGE, HALF): (30, 0.0), (WINDOW, HALF): (1, 1.0)}))
    assert [(one.setting.window, one.cost_ns) for one in sweep.standings] == [(1000, 30_000), (100, 40_000), (500, inf)]
    assert chosen(sweep.cheapest(1.0)) == setting_and_load(LARGE)[0]


def test_what_is_not_shown_to_be_cheaper_did_not_fall_out() -> None:
    """A setting beyond the budget whose rounds overlap with the cheapest's was not the cheaper one."""

    def of(setting: StrategySpec, share: float, *costs: int) -> tuple[StrategySpec, list[Round]]:
        return replace(setting, load=HALF), [round_of(attempts(cost, share), i + 1) for i, cost in enumerate(costs)]

    near, far = of(LARGE, 0.2, 15, 18), of(WINDOW, 0.5, 5, 6)
    assert Sweep.of(result_of(dict([of(SMALL, 0, 20, 30), near]))).cheaper_beyond(0.01) == []
    both = Sweep.of(result_of(dict([of(SMALL, 0, 20, 30), of(LARGE, 0.2, 5, 6), far])))
    assert [one.setting.window for one in both.cheaper_beyond(0.01)] == [1000, 500]


@unhurried
@given(st.floats(1e-6, 1.0))
def test_a_budget_as_large_as_the_errors_lets_a_setting_in(errors: float) -> None:
    """The verdict names a budget that, read back, the errors keep, and that is not far above them."""
    named = format_error_share(budget_for(errors))
    assert errors <= BUDGET.read(named, "--error-budget") <= max(1.11 * errors, errors + 1e-4)


settings = st.lists(st.integers(1, 5000), min_size=1, max_size=4, unique=True).map(
    lambda sizes: [replace(WINDOW, window=size) for size in sizes]
)
outcomes = st.tuples(st.integers(2, 50), st.sampled_from([0.0, 0.01, 0.02, 0.5]))


@unhurried
@given(st.data())
def test_cheapest_by_its_definition(data: st.DataObject) -> None:
    """The cheapest keeps the budget, costs no more than any other that does, and exists whenever one does."""
    cells = {(setting, load): data.draw(outcomes) for setting in data.draw(settings) for load in (HALF, FULL)}
    budget = data.draw(st.sampled_from([0.0, 0.01, 0.1]))
    by_setting = {setting: [cells[setting, load] for load in (HALF, FULL)] for setting, _ in cells}
    keeping = {
        setting: sum(cost / (1 - share) for cost, share in some) / 2 * 1000
        for setting, some in by_setting.items()
        if all(share <= budget for _, share in some)
    }
    found = Sweep.of(swept(cells)).cheapest(budget)
    assert (found is None) == (not keeping)
    if found:
        assert keeping[found.setting] == pytest.approx(found.cost_ns)
        assert keeping[found.setting] == min(keeping.values())


@unhurried
@given(st.data())
def test_a_larger_budget_never_costs_more(data: st.DataObject) -> None:
    """With a larger budget the cheapest is at least as cheap."""
    cells = {(setting, load): data.draw(outcomes) for setting in data.draw(settings) for load in (HALF, FULL)}
    sweep = Sweep.of(swept(cells))
    costs = [found.cost_ns for share in (0, 0.01, 0.02, 1) if (found := sweep.cheapest(share))]
    assert costs == sorted(costs, reverse=True)


def test_figures_are_the_median_rounds() -> None:
    """One disturbed round of three moves neither the cost nor the share of errors."""
    rounds = [round_of(attempts(20), 1), round_of(attempts(900, 0.5), 2), round_of(attempts(22, 0.01), 3)]
    [cell] = Sweep.of(result_of({replace(SMALL, load=HALF): rounds})).cells
    assert (cell.figures.acquire_ns, cell.figures.error_share) == (22_000, 0.01)
    assert cell.figures.cost_ns == pytest.approx(22_000 / 0.99)
    assert cell.spread == pytest.approx((1800 - 20) / (22 / 0.99))


def test_settings_whose_rounds_overlap_are_rivals() -> None:
    """The report says what the rounds do not separate; one round separates nothing."""
    near, far = replace(SMALL, window=300), replace(SMALL, window=400)

    def of(setting: StrategySpec, *costs: int) -> tuple[StrategySpec, list[Round]]:
        return replace(setting, load=HALF), [round_of(attempts(cost), i + 1) for i, cost in enumerate(costs)]

    sweep = Sweep.of(result_of(dict([of(SMALL, 20, 30), of(near, 28, 40), of(far, 50, 60)])))
    assert [rival.setting.window for rival in sweep.tied(0.01)] == [300]
    assert Sweep.of(swept({(SMALL, HALF): (20, 0), (near, HALF): (20, 0)})).tied(0.01) == []


def test_churn_is_judged_and_not_the_filling() -> None:
    """Where there is churn it decides the setting; the filling has a table of its own."""
    load = replace(HALF, churn=Churn(100))
    measured = {}
    for setting, filling, churn in ((SMALL, 10, 40), (LARGE, 30, 20)):
        spec = replace(setting, load=load)
        measured[spec] = [round_of(attempts(filling))]
        measured[replace(spec, phase=Phase.CHURN)] = [round_of(attempts(churn))]
    result = result_of(measured)
    assert result.plan
    result.plan = replace(result.plan, strategies=tuple(spec for spec in measured if spec.phase is Phase.FILL))
    printed = report.text(result, 0.01)
    assert printed.index("the filling before the churn") < printed.index("\nthe churn\n")
    assert said(result)[0] == (
        "Cheapest within 1% errors: window 1000, 20.0 µs a connection (mean of the churn; no errors)."
    )


def test_an_unfinished_setting_is_not_judged() -> None:
    """Without a complete round at every load a setting is printed, marked, and left out of the choice."""
    result = swept(TWO_BY_TWO)
    result.rounds[replace(LARGE, load=FULL)] = [round_of(attempts(30), fault=Interrupted(2))]
    printed = report.text(result, 1.0)
    assert "95%, partial" in printed
    assert said(result, 1.0)[0].startswith("Cheapest within 100% errors: window 100, ")
    assert said(result, 1.0)[1] == "1 setting has no complete round at every load and is not judged."
    del result.rounds[replace(SMALL, load=FULL)]
    assert said(result) == (
        "No setting is judged: none has a complete round at every load.",
        "Next: the run was cut short; run it again for the rest.",
    )


CHEAPEST = (
    "Cheapest within 1% errors: window 100, 30.2 µs a connection "
    "(mean over the 2 loads; at worst 1% errors at fill 95%)."
)
FELL_OUT = (
    "window 1000 takes 25.1 µs a connection, 1.2 times less, but exceeds the budget: "
    "7% of its attempts found no free port at fill 95%."
)


def test_header_names_link_and_delay_as_that_of_a_run_does() -> None:
    """Run and sweep name what decided the figures in the same words, in text and in markdown."""
    result = swept(TWO_BY_TWO)
    assert result.plan
    result.plan = replace(result.plan, link=Link.VETH, delay_ms=2.0)
    words = "own network namespace, veth link, 2 ms delay, backlog listener, loop C, seed 1"
    first = report.text(result, 0.01).splitlines()[0]
    assert first.startswith("sweep: Linux ")
    assert first.endswith(f", {words}")
    assert f", {words}\n" in run_report.text(result)
    assert report.markdown(result, 0.01).splitlines()[2].endswith(f", {words}")


def test_report_has_tables_choices_and_a_verdict() -> None:
    """Settings with a row a load, the cheapest at each load, each setting over all loads, and the verdict."""
    printed = report.text(swept(TWO_BY_TWO), 0.01)
    assert printed.splitlines()[-4:] == [
        f"verdict: {CHEAPEST}",
        FELL_OUT,
        "window 1000 would keep the budget with --error-budget 7%.",
        "Next: repeat the sweep with --rounds 5; one round does not show how far the figures scatter.",
    ]
    rows = [line.split() for line in printed.splitlines()]
    assert ["50%", "window", "1000", "18.0", "µs", "0.00%"] in rows
    assert ["95%", "window", "100", "40.4", "µs", "1.00%"] in rows
    assert ["window", "1000", "25.1", "µs", "7.00%", "95%", "exceeded"] in rows
    assert ["window", "100", "30.2", "µs", "1.00%", "95%", "kept"] in rows
    assert "2 settings at 2 loads" in printed
    none, way_in, _ = said(swept(TWO_BY_TWO), 0.001)
    assert none.startswith("No setting keeps within 0.1% errors; nearest: window 100, 30.2 µs a connection")
    assert way_in == "window 100 would keep the budget with --error-budget 1%."


def test_the_runner_up_says_what_would_let_it_in() -> None:
    """A cheap setting without retries loses to a slow one: the verdict names it, and the model says what would help."""
    few = Load(fill=0.95)
    window = StrategySpec("window", 16, Placement.INSIDE, 0)
    plan = replace(PLAN, port_range=PortRange(9024, 10023), strategies=(replace(window, load=few),))
    attempts = simulate(RoundPlan(plan, plan.strategies[0], 1), Algorithm.FROM_6_8)[Phase.FILL]
    found = samples_of([35_000] * len(attempts), errno=[errno.EADDRNOTAVAIL * int(port == 0) for port in attempts.port])
    result = result_of(
        {
            replace(PLAIN, load=few): [round_of(samples_of([124_000] * len(attempts)))],
            replace(window, load=few): [round_of(found)],
        },
        plan,
    )
    missed = float(np.mean(attempts.port == 0))
    assert missed > 0.01
    found_variants = variants_of(result, 0.01)
    best = found_variants[0]
    assert best.options.startswith("--retries ")
    assert all(one.error_share <= 0.01 for one in found_variants)
    first, second, third, last = said(result, variants=found_variants)
    assert first.startswith("Cheapest within 1% errors: plain, 125 µs a connection")
    assert second.startswith("window 16 takes ")
    assert f"but exceeds the budget: {format_error_share(missed)} of its attempts found no free port" in second
    assert f"{best.options} (the model predicts {format_error_share(best.error_share)} errors)" in third
    assert last == f"Next: repeat the sweep with --strategy window --window 16 {best.options}, which measures it."
    swept_json = json.loads(report.json(result, 0.01, found_variants))["sweep"]
    assert swept_json["choice"]["label"] == "plain"
    assert [one["label"] for one in swept_json["ranking"]] == ["window 16", "plain"]
    let_in = swept_json["runner_up"]["would_keep_budget_with"]
    assert let_in["options"][0]["options"] == best.options
    assert missed <= let_in["error_budget_share"] < missed + 0.02
    assert swept_json["verdict"] == [first, second, third, last]


def test_the_model_is_not_asked_where_it_does_not_hold() -> None:
    """The model has no remedy for errors of another reason than ports, nor for errors that it does not predict."""
    few = Load(fill=0.5)
    slow, fast = replace(PLAIN, load=few), replace(StrategySpec("window", 16, Placement.INSIDE, 0), load=few)
    plan = replace(PLAN, port_range=PortRange(9024, 9223))
    for code, fault in ((errno.ECONNREFUSED, "failed"), (errno.EADDRNOTAVAIL, "found no free port")):
        failing = samples_of([30_000] * 100, errno=[code] * 40 + [0] * 60)
        result = result_of({slow: [round_of(attempts(124))], fast: [round_of(failing)]}, plan)
        assert variants_of(result, 0.01) == ()
        assert said(result)[1].endswith(f"but exceeds the budget: 40% of its attempts {fault}.")
        assert "would keep" not in " ".join(said(result))


def test_json_of_a_sweep_has_null_for_an_empty_group() -> None:
    """A parity without a port and a cost without a connection are null, not 0."""
    cells = {(SMALL, HALF): (20, 1.0), (LARGE, HALF): (18, 0.0)}
    found = json.loads(report.json(swept(cells), 0.01))["sweep"]
    assert [one["cost_ns"] for one in found["ranking"]] == [18_000, None]
    [at] = found["ranking"][1]["by_load"]
    assert (at["figures"]["even_ns"], at["figures"]["odd_ns"], at["figures"]["cost_ns"]) == (None, None, None)
    assert found["runner_up"] is None


def test_report_of_long_names_stays_within_a_terminal() -> None:
    """Settings and loads of the longest names fit 80 columns: the table leaves the least important out."""
    settings = [
        StrategySpec("window", size, Placement.CLIPPED, 1000, Load(sources=20, give_up_ms=0.06))
        for size in (10_000, 20_000)
    ]
    loads = [
        Load(fill=fill, concurrency=clients, churn=Churn(20_000, Close.FIN, 500))
        for fill in (0.5, 0.95)
        for clients in (1, 16)
    ]
    measured = {
        spec: [round_of(attempts(900))]
        for setting in settings
        for load in loads
        for spec in replace(setting, load=replace(load, sources=20, give_up_ms=0.06)).phases
    }
    printed = report.text(result_of(measured), 0.01, width=80)
    assert [line for line in printed.splitlines() if len(line) > 80] == []
    assert "2 settings with 1000 retries, 20 sources, giving up after 0.06 ms at 4 loads" in printed
    assert "each with churn 20000, by fin, at 500/s" in printed.replace("\n  ", " ")
    assert "over all loads" in printed
    differing = replace(settings[0], retries=7, load=Load(give_up_ms=0.06))
    flat = report.text(swept({(settings[0], HALF): (900, 0), (differing, HALF): (900, 0)}), 0.01, width=80)
    assert [line for line in flat.splitlines() if len(line) > 80] == []


def test_one_load_makes_one_flat_table() -> None:
    """With a single load there is nothing to group by and nothing to choose load by load."""
    printed = report.text(swept({(SMALL, HALF): (20, 0), (LARGE, HALF): (18, 0.5)}), 0.01)
    assert "2 settings at one load: fill 50%" in printed
    assert any(line.startswith("window 1000  100  50.00%  36.0 µs") for line in printed.splitlines())
    assert "at each" not in printed
    assert "over all loads" not in printed


def test_loads_are_named_by_what_differs() -> None:
    """Only the parts that are not the same in all loads are in their names."""
    names = Names.of([Load(concurrency=1), Load(concurrency=4)])
    assert (names.heading, list(names.short.values()), names.common) == ("concurrency", ["1 client", "4 clients"], "")
    both = Names.of([Load(fill=0.5, concurrency=2), Load(fill=0.9, concurrency=4)])
    assert (both.heading, list(both.short.values())) == ("load", ["50%, 2 clients", "90%, 4 clients"])
    assert Names.of([Load()]).short == {}


def test_like_findings_are_counted() -> None:
    """Of a finding about many rounds two are shown, and the number of further ones."""
    result = swept(TWO_BY_TWO, number=2)
    for rounds in result.rounds.values():
        rounds[:] = [replace(one, report=replace(one.report, steal=0.5)) for one in rounds]
    printed = report.text(result, 0.01)
    assert printed.count("the hypervisor took 50.0% of the CPU time") == 2
    assert "warning: the same of 6 more rounds" in printed


def test_sweeps_are_distinguished_from_runs() -> None:
    """A product of settings and loads with a strategy in it more than once: no run has that, nor the talk's cases."""
    assert is_sweep(swept(TWO_BY_TWO))
    assert is_sweep(read_csv(csv_rows(swept(TWO_BY_TWO)), "a.csv"))
    assert not is_sweep(result_of({PLAIN: [round_of(attempts(1))], WINDOW: [round_of(attempts(1))]}))
    assert not is_sweep(result_of({case.spec: [round_of(attempts(1))] for case in cases(FULL_RANGE)}))


def test_blocks_for_a_page_say_the_same() -> None:
    """The page has the verdict of the text, its table and its choices."""
    blocks = report.tables(swept(TWO_BY_TWO), 0.01)
    assert [block.title for block in blocks] == [
        "Sweep: every setting at every load",
        "cheapest within 1% errors at each fill",
        "mean over all loads",
    ]
    assert len(blocks[0].rows) == 4
    assert report.sentences(swept(TWO_BY_TWO), 0.01)[:2] == (CHEAPEST, FELL_OUT)
    assert run_report.text(swept(TWO_BY_TWO)).count("connection attempts:") == 4


def test_markdown_has_the_choice_too() -> None:
    """Markdown has a table for each of the text's, and the verdict before them."""
    printed = markdown(swept(TWO_BY_TWO), 0.01).splitlines()
    assert sum(line.startswith("| ---") for line in printed) == 3
    assert printed.index(CHEAPEST) < next(i for i, line in enumerate(printed) if line.startswith("| ---"))
    choice = next(line for line in printed if line.startswith("| window 1000 ") and "exceeded" in line)
    assert len(choice.split("|")) == 7


def test_thresholds_concern_every_setting() -> None:
    """A condition that names a strategy is about it at every load and with every window."""
    assert all(applies_to(parse("window: errors > 2%"), spec) for spec in swept(TWO_BY_TWO).specs)


def test_saves_are_spaced_and_the_end_is_saved(tmp_path: Path) -> None:
    """Just after a save there is no other, but the last measurement is in the file."""
    result = swept(TWO_BY_TWO)
    plan, specs = result.plan, list(result.rounds)
    assert plan
    everything, result.rounds = dict(result.rounds), {}
    path = tmp_path / "sweep.csv"
    lengths = []
    with Output(path) as output:
        writer = ResultWriter(result, PrintoutAtEnd(result, FORMATS["talk"]), output, spacing=1e9)
        for spec in specs:
            result.rounds[spec] = everything[spec]
            writer.take_round(RoundPlan(plan, spec, 1))
            lengths.append(len(read_csv(path.read_text(encoding="utf-8"), "a.csv").rounds))
        assert lengths == [1, 1, 1, 1]
        writer.finish()
    assert len(read_csv(path.read_text(encoding="utf-8"), "a.csv").rounds) == len(specs)


def test_picture_has_a_line_for_each_setting_over_the_loads() -> None:
    """A page of a sweep opens with the cost of a connection; one load alone is shown as bars."""
    half, most = Load(fill=0.5), Load(fill=0.9)
    picture = of_sweep(
        swept(
            {
                (SMALL, half): (10, 0.0),
                (SMALL, most): (20, 0.5),
                (LARGE, half): (30, 0.0),
                (LARGE, most): (40, 0.0),
            }
        )
    )
    assert picture
    small, large = picture.figure["data"]
    assert small["x"] == large["x"] == ["50&#37;", "90&#37;"]
    assert small["y"] == pytest.approx([10e-6, 40e-6])  # half of the attempts fail: a connection costs twice as much
    assert small["text"][1] == "40.0 µs, 50&#37; fail"
    assert large["y"] == pytest.approx([30e-6, 40e-6])
    alone = of_sweep(swept({(SMALL, half): (10, 0.0), (LARGE, half): (30, 0.0)}))
    assert alone
    assert [trace["type"] for trace in alone.figure["data"]] == ["bar"]
    assert alone.figure["data"][0]["x"] == pytest.approx([10.0, 30.0])
