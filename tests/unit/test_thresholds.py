"""The language of thresholds: what it accepts, what it refuses, and where the caret stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.errors import UsageError
from connbench.model import Churn, Load, Phase, StrategySpec
from connbench.thresholds import (
    METRICS,
    NO_UNIT,
    UNITS,
    Dimension,
    Expression,
    Limit,
    Metric,
    Multiple,
    Operator,
    Slower,
    Threshold,
    applies_to,
    check_names,
    parse,
)
from factories import LONG, PLAIN, WINDOW, unhurried

P99 = Metric("p99", "latency", "all")


def metrics_of(dimension: Dimension) -> st.SearchStrategy[Metric]:
    """Metrics of this kind, those of a base among them."""
    known = sorted({m for m in METRICS.values() if dimension in m.dimensions}, key=str)
    percents = st.decimals("0.01", "99.99", places=2).map(lambda percent: f"p{percent.normalize():f}")
    return st.builds(
        lambda metric, percentile, of_base: Metric(
            percentile if percentile and metric.percent else metric.figure, metric.quantity, metric.group, of_base
        ),
        st.sampled_from(known),
        st.none() | percents,
        st.booleans(),
    )


numbers = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
names = st.none() | st.sampled_from([PLAIN.name, WINDOW.label, LONG.label, "0123_6.8: a file"])


@st.composite
def thresholds(draw: st.DrawFn) -> Threshold:
    """Any condition that means something."""
    dimension = draw(st.sampled_from(Dimension))
    metric = draw(metrics_of(dimension))
    units = [unit for unit in (NO_UNIT, *UNITS.values()) if unit.dimension is dimension]
    limit = st.builds(Limit, numbers, st.sampled_from(units))
    other = draw(metrics_of(dimension))
    common = Dimension.SHARE if Dimension.SHARE in metric.dimensions & other.dimensions else dimension
    multiple = st.builds(Multiple, numbers, st.just(other), st.just(common))
    return Threshold(metric, draw(st.sampled_from(Operator)), draw(limit | multiple), draw(names))


expressions: st.SearchStrategy[Expression] = thresholds() | st.builds(Slower, names)

TOKENS = [
    "p99",
    "p99.9",
    "even.",
    "base.",
    "errors",
    ">",
    "<=",
    "=",
    "5",
    ".5",
    "1e9",
    "ms",
    "µs",
    "%",
    "x",
    ":",
    " ",
    "\n",
]


def fault_of(text: str, *, with_base: bool = False) -> UsageError:
    """The error of a text."""
    with pytest.raises(UsageError) as caught:
        parse(text, with_base=with_base)
    return caught.value


@unhurried
@given(expressions)
def test_what_is_written_is_read_back(expression: Expression) -> None:
    """An expression's own text is read as that expression."""
    assert parse(str(expression), with_base=True) == expression


@unhurried
@given(st.text() | st.lists(st.sampled_from(TOKENS)).map("".join), st.booleans())
def test_any_text_is_an_expression_or_refused_in_three_lines(text: str, with_base: bool) -> None:
    """Any text is either a condition or a UsageError with a caret under a place of the text."""
    try:
        expression = parse(text, with_base=with_base)
    except UsageError:
        if text.strip():
            _, shown, caret = fault_of(text, with_base=with_base).message.splitlines()
            assert len(shown) == 4 + len(text)
            assert caret.strip() == "^"
            assert len(caret) <= len(shown) + 1
    else:
        assert parse(str(expression), with_base=with_base) == expression


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("p99 > 5ms", Threshold(P99, Operator.OVER, Limit(5, UNITS["ms"]))),
        ("  p99>5 ms ", Threshold(P99, Operator.OVER, Limit(5, UNITS["ms"]))),
        ("all.latency.p99 > 5ms", Threshold(P99, Operator.OVER, Limit(5, UNITS["ms"]))),
        ("p99.9 >= .5s", Threshold(Metric("p99.9", "latency", "all"), Operator.AT_LEAST, Limit(0.5, UNITS["s"]))),
        ("errors > 2%", Threshold(Metric("errors"), Operator.OVER, Limit(2, UNITS["%"]))),
        ("errors > 2", Threshold(Metric("errors"), Operator.OVER, Limit(2, NO_UNIT))),
        (
            "even.acquire.p99 <= 7ns",
            Threshold(Metric("p99", "acquire", "even"), Operator.AT_MOST, Limit(7, UNITS["ns"])),
        ),
        ("tries.max > 10", Threshold(Metric("max", "tries", "all"), Operator.OVER, Limit(10, NO_UNIT))),
        ("p75 > 5ms", Threshold(Metric("p75", "latency", "all"), Operator.OVER, Limit(5, UNITS["ms"]))),
        ("p99.990 < 1ms", Threshold(Metric("p99.99", "latency", "all"), Operator.UNDER, Limit(1, UNITS["ms"]))),
        ("odd.tries.p5 > 2", Threshold(Metric("p5", "tries", "odd"), Operator.OVER, Limit(2, NO_UNIT))),
        ("errors > 10k", Threshold(Metric("errors"), Operator.OVER, Limit(10, UNITS["k"]))),
        ("knee < 45.5%", Threshold(Metric("knee"), Operator.UNDER, Limit(45.5, UNITS["%"]))),
        ("p99 > 5µs", Threshold(P99, Operator.OVER, Limit(5, UNITS["µs"]))),
        ("wall > 2min", Threshold(Metric("wall"), Operator.OVER, Limit(2, UNITS["min"]))),
        ("p99 > 5\N{GREEK SMALL LETTER MU}s", Threshold(P99, Operator.OVER, Limit(5, UNITS["µs"]))),
        ("window  500 : p99 > 1us", Threshold(P99, Operator.OVER, Limit(1, UNITS["us"]), "window 500")),
    ],
)
def test_limit(text: str, threshold: Threshold) -> None:
    """A metric is compared with a figure in its unit; group all, latency and blanks may be left out."""
    assert parse(text) == threshold


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("odd.mean > 3x even.mean", 3),
        ("odd.mean>3 x even.mean", 3),
        ("odd.mean > even.mean", 1),
        ("odd.mean > 1.5\N{MULTIPLICATION SIGN}even.mean", 1.5),
    ],
)
def test_ratio(text: str, factor: float) -> None:
    """A metric is compared with a multiple of another one."""
    even, odd = Metric("mean", "latency", "even"), Metric("mean", "latency", "odd")
    assert parse(text) == Threshold(odd, Operator.OVER, Multiple(factor, even, Dimension.TIME))


@pytest.mark.parametrize(
    ("text", "caret", "fault", "hint"),
    [
        ("pp9 > 5ms", "^", "no metric 'pp9'", "did you mean p99?"),
        ("p0 > 5ms", "^", "no metric 'p0'", "between p0, which is called min, and p100"),
        ("p100 > 5ms", "^", "no metric 'p100'", "p100, which is max"),
        ("odd: even.acquire.p100.1 > 5ms", "     ^", "no metric 'even.acquire.p100.1'", "percentiles lie between"),
        ("p99.99999999999999999 > 5ms", "^", "no metric 'p99.99999999999999999'", "percentiles lie between"),
        ("evn.p99.9 > 5ms", "^", "no metric 'evn.p99.9'", "did you mean even.p99.9?"),
        ("odd.avg > 5ms", "^", "no metric 'odd.avg'", "did you mean odd.mean?"),
        ("evn.p99 > 5ms", "^", "no metric 'evn.p99'", "did you mean even.p99?"),
        ("even.total > 5ms", "^", "no metric 'even.total'", "write total"),
        ("speed > 5ms", "^", "no metric 'speed'", "p99.9, max"),
        ("window: pp9 > 5ms", "        ^", "no metric 'pp9'", "did you mean p99?"),
        (" : p99 > 5ms", "^", "no strategy before the colon", "'window: p99 > 1ms'"),
        ("5ms < p99", "^", "a metric is expected here", "p99"),
        ("p99 5ms", "    ^", "an operator is missing", "> >= < <="),
        ("p99 == 5ms", "    ^", "'==' is not an operator", "> >= < <="),
        ("p99 =< 5ms", "    ^", "'=<' is not an operator", "> >= < <="),
        ("p99 >", "     ^", "a limit is missing", "5ms"),
        ("p99 > -5ms", "      ^", "a limit is missing", "5ms"),
        ("p99 > 5", "      ^", "p99 is a time, but the limit has no unit", "a time takes ns, us, ms, s, min or h"),
        ("p99 > 5 %", "        ^", "p99 is a time, but the limit is a share", "a time takes ns, us, ms, s, min or h"),
        (
            "errors > 5ms",
            "          ^",
            "errors is a number or a share, but the limit is a time",
            "no unit, k or M; a share takes %",
        ),
        (
            "tries.max > 5%",
            "             ^",
            "tries.max is a number, but the limit is a share",
            "a number takes no unit",
        ),
        ("knee < 50", "       ^", "knee is a share, but the limit has no unit", "a share takes %"),
        ("p99 > 5msec", "       ^", "'msec' is not a unit", "ns, us, ms, s, min or h"),
        ("p99 > 3x errors", "         ^", "p99 is a time, and errors is a number or a share", "like with like"),
        ("p99 > 3x", "        ^", "a metric is expected here", "p99"),
        ("p99 > 5ms and errors > 2", "          ^", "should end here", "once for each"),
        ("p99 > 5ms!", "         ^", "should end here", "take it away"),
        ("p99 > " + "9" * 400 + "ms", "      ^", "too large", "measurement"),
        ("p99 > 1.2x base.p99", "           ^", "'base.p99' needs a base run", "compare BASE NEW"),
        ("base.p99 > 1ms", "^", "'base.p99' needs a base run", "compare BASE NEW"),
        ("window: slower", "        ^", "'slower' needs a base run", "compare BASE NEW"),
    ],
)
def test_fault_is_shown_where_it_is(text: str, caret: str, fault: str, hint: str) -> None:
    """The message repeats the expression with a caret under the wrong place, and a remedy."""
    error = fault_of(text)
    said, *place = error.message.splitlines()
    assert fault in said
    assert place == [f"    {text[:120]}", f"    {caret}"]
    assert hint in error.hint


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_no_condition(text: str) -> None:
    """An empty expression is refused with an example."""
    assert "no condition" in fault_of(text).message


def test_control_characters_do_not_move_the_caret() -> None:
    """A character that prints as none or several is shown as one."""
    assert fault_of("\tpp8\x1b > 5ms").message.splitlines()[1:] == ["     pp8? > 5ms", "     ^"]


def test_base_and_slower_are_read_where_there_is_a_base() -> None:
    """With a second run, expressions about both are accepted, and so are others."""
    for text in ("p99 > 1.2x base.p99", "base.odd.mean < 1x odd.mean", "slower", "window: slower", "p99 > 5ms"):
        assert str(parse(text, with_base=True)) == text


@pytest.mark.parametrize(
    ("strategy", "held"),
    [
        ("", {PLAIN, WINDOW, LONG}),
        ("window: ", {WINDOW, LONG}),
        ("window 500: ", {WINDOW}),
        (f"{LONG.label}: ", {LONG}),
    ],
)
def test_expression_is_for_all_or_for_one_name_or_label(strategy: str, held: set[StrategySpec]) -> None:
    """Without a strategy an expression is about every one; with one, about those of that name or label."""
    expression = parse(f"{strategy}p99 > 1ms")
    assert {spec for spec in (PLAIN, WINDOW, LONG) if applies_to(expression, spec)} == held


FILLING = StrategySpec("plain", load=Load(fill=0.8, churn=Churn(2000)))
CHURNING = replace(FILLING, phase=Phase.CHURN)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("p99 > 1ms", {FILLING, CHURNING}),
        ("plain: p99 > 1ms", {FILLING, CHURNING}),
        ("plain, fill 80%, churn 2000: p99 > 1ms", {CHURNING}),
        ("plain, fill 80%, before churn 2000: p99 > 1ms", {FILLING}),
        ("knee < 50%", {FILLING}),
        ("plain: knee < 50%", {FILLING}),
        ("plain, fill 80%, churn 2000: knee < 50%", {CHURNING}),
    ],
)
def test_phase_is_named_by_its_whole_label(text: str, held: set[StrategySpec]) -> None:
    """Labels contain commas and percent signs; a bare condition is for both phases, except the knee."""
    expression = parse(text)
    assert {spec for spec in (FILLING, CHURNING) if applies_to(expression, spec)} == held


def test_expression_about_a_strategy_that_is_not_there_is_refused() -> None:
    """A threshold about no strategy is wrong usage, and the message lists the existing ones."""
    expressions = [parse("plain: p99 > 1ms"), parse("window 50: p99 > 1ms")]
    with pytest.raises(UsageError, match=r"this run has no strategy 'window 50'") as caught:
        check_names(expressions, (PLAIN, WINDOW), "this run")
    assert caught.value.hint == "it has plain, window 500"
