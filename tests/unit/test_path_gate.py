"""The conditions of `inspect`: what they accept, which paths they are about, which is the worst; and Nagios's line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.errors import EnvironmentFault, UsageError
from connbench.inspect.forecast import Forecaster
from connbench.inspect.inspection import Inspection, inspect
from connbench.inspect.path_gate import FULLEST, Judgement, Status, evaluate, nagios, unknown_line
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets, State, address_words
from connbench.model import PortRange
from connbench.model.time_wait import NEVER, TimeWait
from connbench.path_conditions import NAMES, Subject, parse_condition

LOW, PORTS = 40000, 1000
SETTINGS = Settings(PortRange(LOW, LOW + PORTS - 1), time_wait=TimeWait(reuse=NEVER), kernel="6.18.0")
SOURCE, BIG, SMALL = "10.0.0.5", "10.1.2.3", "10.1.2.4"


def sockets_of(
    target: str,
    ports: Sequence[int],
    state: State = State.ESTABLISHED,
    *,
    source: str = SOURCE,
    port: int = 443,
    expires_ms: int = -1,
    protocol: int = 6,
) -> Sockets:
    """Connections of one path."""
    (family, local), (_, remote) = address_words(source), address_words(target)
    number = len(ports)
    return Sockets.of(
        protocol=[protocol] * number,
        family=[family] * number,
        state=[state] * number,
        expires_ms=[expires_ms] * number,
        local=np.array([local] * number, np.uint64).reshape(-1, 2),
        remote=np.array([remote] * number, np.uint64).reshape(-1, 2),
        local_port=ports,
        remote_port=[port] * number,
    )


def found(*parts: Sockets, settings: Settings = SETTINGS, top: int | None = None) -> Inspection:
    """The inspection of these sockets."""
    return inspect([Snapshot(Sockets.concatenate(parts), settings)], top)


def judged(inspection: Inspection, *conditions: str) -> list[Judgement]:
    """What becomes of conditions."""
    return evaluate([parse_condition(text) for text in conditions], inspection, Forecaster().forecast)


def failures(inspection: Inspection, *conditions: str) -> list[str]:
    """What fails, in words."""
    return [one.failure.text for one in judged(inspection, *conditions) if one.outcome]


USUAL = found(
    sockets_of(BIG, range(LOW, LOW + 600)),
    sockets_of(BIG, range(LOW + 600, LOW + 900), State.TIME_WAIT, expires_ms=30_000),
    sockets_of(SMALL, range(LOW, LOW + 100)),
)
"""900 of 1,000 ports towards one target, 100 towards another; all even ports but 50 are in use on the first path."""

BIG_NAME, SMALL_NAME = f"{SOURCE} -> {BIG}:443", f"{SOURCE} -> {SMALL}:443"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("used > 80%", f"{BIG_NAME}: used > 80%, measured 90%"),
        ("used > 5%", f"{BIG_NAME}: used > 5%, measured 90%; and on 1 more path"),
        ("used > 0.5k", f"{BIG_NAME}: used > 0.5k, measured 0.9k"),
        ("used >= 900", f"{BIG_NAME}: used >= 900, measured 900"),
        ("used > 900", None),
        ("free < 101", f"{BIG_NAME}: free < 101, measured 100"),
        ("free < 100", None),
        ("free <= 90%", f"{BIG_NAME}: free <= 90%, measured 10%; and on 1 more path"),
        ("established > 500", f"{BIG_NAME}: established > 500, measured 600"),
        ("time-wait > 25%", f"{BIG_NAME}: time-wait > 25%, measured 30%"),
        ("time-wait > 0.3x used", f"{BIG_NAME}: time-wait > 0.3x used, measured 0.333x"),
        ("even > 449", f"{BIG_NAME}: even > 449, measured 450"),
        ("odd < 1", None),
        ("knee < 60", f"{BIG_NAME}: knee < 60, measured 50"),
        ("exhaustion < 200", f"{BIG_NAME}: exhaustion < 200, measured 100"),
        ("probes > 1.01", f"{BIG_NAME}: probes > 1.01, measured "),
        ("latency > 1us", f"{BIG_NAME}: latency > 1us, measured "),
        ("left < 1h", None),
        (f"{SMALL}: used > 5%", f"{SMALL_NAME}: used > 5%, measured 10%"),
        (f"{SMALL}:443: used > 5%", f"{SMALL_NAME}: used > 5%, measured 10%"),
        (f"{SMALL}:80: used > 5%", None),
        (f"{BIG_NAME}: used > 5%", f"{BIG_NAME}: used > 5%, measured 90%"),
        (f"10.0.0.6 -> {BIG}: used > 5%", None),
        (f"{SMALL}:80: established < 1", f"{SMALL}:80: established < 1, measured 0"),
        (f"{SMALL}:80: free < 1", None),
        ("listeners > 0", None),
        ("listeners >= 0", "this namespace: listeners >= 0, measured 0"),
    ],
)
def test_condition_is_reported_of_the_worst_path(condition: str, said: str | None) -> None:
    """The path that crosses the limit by most is named, the others are counted; without connections nothing is in use.

    Times and probes are the model's, and tested there.
    """
    told = failures(USUAL, condition)
    assert len(told) == (said is not None)
    if said is not None:
        assert told[0] == said if not said.endswith("measured ") else told[0].startswith(said)


def test_no_connection_is_nothing_in_use() -> None:
    """An idle host passes; a condition that wants connections fails."""
    idle = found()
    conditions = ("used > 0", "free < 1000", "left < 1h", "knee < 100%"[:-1], "latency > 0ns", "time-wait > 0%")
    assert failures(idle, *conditions) == []
    assert failures(idle, "established < 1") == ["no connection: established < 1, measured 0"]


def test_time_left_follows_the_growth() -> None:
    """500 closed in the last 10 s, none leaves in the next: 50/s more, and 500 ports are free."""
    growing = found(sockets_of(BIG, range(LOW, LOW + 500), State.TIME_WAIT, expires_ms=55_000))
    assert failures(growing, "left < 11s", "left < 9s") == [f"{BIG_NAME}: left < 11s, measured 10s"]


def test_time_left_is_unlimited_where_ports_in_time_wait_are_taken_again() -> None:
    """With tcp_tw_reuse the same TIME_WAIT exhausts nothing."""
    reusing = found(
        sockets_of(BIG, range(LOW, LOW + 500), State.TIME_WAIT, expires_ms=55_000),
        settings=replace(SETTINGS, time_wait=TimeWait(reuse=1)),
    )
    assert failures(reusing, "left < 11s") == []


def test_what_is_not_known_fails() -> None:
    """A dump without timers says nothing of the growth; but what is known of another path comes first."""
    unknown = sockets_of(BIG, range(LOW, LOW + 300), State.TIME_WAIT)
    known = sockets_of(SMALL, range(LOW, LOW + 500), State.TIME_WAIT, expires_ms=55_000)
    assert failures(found(unknown), "left < 1s") == [
        f"{BIG_NAME}: left < 1s cannot be judged: the timers of TIME_WAIT are not known"
    ]
    assert failures(found(unknown, known), "left < 11s") == [f"{SMALL_NAME}: left < 11s, measured 10s"]
    [one] = judged(found(unknown, known), "left < 1s")
    assert one.is_unknown


def test_udp_has_no_forecast_and_does_not_fail() -> None:
    """No model has its search: conditions on probes, time and knee are not about it."""
    udp = found(sockets_of(BIG, range(LOW, LOW + 900), protocol=17))
    assert failures(udp, "probes > 0", "latency > 0ns", "knee < 1000") == []
    assert failures(udp, "used > 80%") == [f"{SOURCE} -> {BIG}:443 (udp): used > 80%, measured 90%"]


def test_path_beyond_those_shown_is_judged() -> None:
    """--top 1 shows one path; conditions see the 100 fullest, and with a target also others."""
    few = [sockets_of(f"10.2.0.{number}", range(LOW, LOW + 10)) for number in range(FULLEST)]
    one = sockets_of(SMALL, [LOW], State.CLOSE_WAIT, source="10.0.0.6")
    many = found(sockets_of(BIG, range(LOW, LOW + 20)), *few, one, top=1)
    assert len(many.rows) == 1
    assert failures(many, "used > 5") == [f"{BIG_NAME}: used > 5, measured 20; and on 99 more paths"]
    assert failures(many, f"{SMALL}: used > 0") == [f"10.0.0.6 -> {SMALL}:443: used > 0, measured 1"]


def test_listeners_of_the_range_are_counted_by_namespace() -> None:
    """Ports count once, and those outside do not."""
    no_peer = "0.0.0.0"  # noqa: S104  # as the kernel shows it
    listening = [sockets_of(no_peer, [LOW, LOW + 1, 443], State.LISTEN, source=host, port=0) for host in (SOURCE, BIG)]
    snapshot = Snapshot(Sockets.concatenate(listening), SETTINGS, namespace="blue")
    assert failures(inspect([snapshot]), "listeners > 0") == ["blue: listeners > 0, measured 2"]


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("10.1.2.3", Subject("10.1.2.3")),
        ("10.1.2.3:443", Subject("10.1.2.3", 443)),
        ("2001:db8::1", Subject("2001:db8::1")),
        ("2001:DB8:0::1", Subject("2001:db8::1")),
        ("[2001:db8::1]:443", Subject("2001:db8::1", 443)),
        ("[2001:db8::1]", Subject("2001:db8::1")),
        ("10.0.0.5 -> 10.1.2.3:443", Subject("10.1.2.3", 443, "10.0.0.5")),
        ("::1->::2", Subject("::2", None, "::1")),
    ],
)
def test_subject_is_a_target_as_reports_write_it(text: str, subject: Subject) -> None:
    """An address of either family, with or without port and source."""
    assert Subject.parse(text) == subject
    assert parse_condition(f"{text}: used > 1").strategy == text


@pytest.mark.parametrize(
    ("text", "fault", "hint"),
    [
        ("example.com: used > 80%", "'example.com' is not a target", "ADDRESS:PORT"),
        ("10.1.2.3:http: used > 80%", "'10.1.2.3:http' is not a target", "ADDRESS:PORT"),
        ("10.1.2: used > 80%", "'10.1.2' is not a target", "ADDRESS:PORT"),
        ("-> 10.1.2.3: used > 80%", "'-> 10.1.2.3' is not a target", "SOURCE -> ADDRESS"),
        ("10.1.2.3: listeners > 1", "listeners are not those of a target", "write 'listeners > 1'"),
        ("usd > 80%", "there is no metric 'usd'", "did you mean used?"),
        ("time_wait > 10k", "there is no metric 'time_wait'", "did you mean time-wait?"),
        ("estab > 10k", "there is no metric 'estab'", "did you mean established?"),
        ("p99 > 5ms", "there is no metric 'p99'", "there are used, free,"),
        ("slower", "there is no metric 'slower'", "there are used, free,"),
        ("base.used > 5", "there is no metric 'base.used'", ""),
        ("even > 50%", "even is a number, but the limit is a share", "a number takes no unit, k or M"),
        ("used > 5ms", "used is a number or a share, but the limit is a time", "a share takes %"),
        ("latency > 5", "latency is a time, but the limit has no unit", "a time takes"),
        ("used > ", "a limit is missing", "0.5x used"),
        (": used > 1", "there is no target before the colon", "'10.1.2.3:443: used > 80%'"),
        ("", "--fail-if has no condition", "'used > 80%'"),
    ],
)
def test_what_is_refused(text: str, fault: str, hint: str) -> None:
    """The parser is that of a run's thresholds, with other words."""
    with pytest.raises(UsageError, match=re.escape(fault)) as caught:
        parse_condition(text)
    assert hint in caught.value.hint


def test_message_names_the_option() -> None:
    """A fault of --warn-if is not one of --fail-if."""
    with pytest.raises(UsageError, match=r"^--warn-if: there is no metric"):
        parse_condition("usd > 1", "--warn-if")


@given(st.sampled_from(NAMES), st.sampled_from([">", "<", ">=", "<="]), st.floats(0, 1e9), st.booleans())
def test_any_condition_is_judged(name: str, operator: str, limit: float, is_multiple: bool) -> None:
    """Whatever stands on both sides, the outcome begins with what was measured; and it agrees with the operator."""
    unit = {"latency": "ms", "left": "s"}.get(name, "")
    bound = f"{limit:f}x {name}" if is_multiple else f"{limit:f}{unit}"
    [one] = judged(USUAL, f"{name} {operator} {bound}")
    assert one.outcome == "" or one.outcome.startswith(", measured ")
    if not is_multiple and one.value is not None:
        scale = {"ms": 1e6, "s": 1e9}.get(unit, 1)
        assert bool(one.outcome) == one.condition.operator.holds(one.value / scale, float(f"{limit:f}"))


def answer(
    inspection: Inspection, warning: Sequence[str] = (), critical: Sequence[str] = (), summary: str = "all is well"
) -> tuple[Status, str]:
    """Status and line of a check."""
    return nagios(summary, judged(inspection, *warning), judged(inspection, *critical))


@pytest.mark.parametrize(
    ("warning", "critical", "status", "line"),
    [
        (["used > 80%"], ["used > 95%"], 1, f"WARNING - {BIG_NAME}: used > 80%, measured 90% | 'used'=90%;80;95"),
        (["used > 80%"], ["used > 85%"], 2, None),
        (["used > 91%"], ["used > 95%"], 0, "OK - all is well | 'used'=90%;91;95"),
        (
            [],
            ["free < 1000"],
            2,
            f"CRITICAL - {BIG_NAME}: free < 1000, measured 100; and on 1 more path | 'free'=100;;1000:",
        ),
        ([], ["left < 2min"], 0, "OK - all is well | 'left'=U;;120:"),
        ([f"{SMALL}: used > 5%"], [], 1, f"WARNING - {SMALL_NAME}: used > 5%, measured 10% | '{SMALL} used'=10%;5"),
        ([], ["used > 1M", "used > 99%"], 0, "OK - all is well | 'used'=900;;1000000 'used %'=90%;;99"),
        ([], ["time-wait > 2x used"], 0, "OK - all is well"),
        ([], [], 0, "OK - all is well"),
    ],
)
def test_line_of_a_check(warning: list[str], critical: list[str], status: int, line: str | None) -> None:
    """--fail-if is critical, --warn-if a warning; limits are ranges that raise no alert; times are in seconds."""
    found_status, found_line = answer(USUAL, warning, critical)
    assert found_status == status
    if line:
        assert found_line == f"CONNBENCH {line}"


def test_unknown_comes_after_critical_and_warning() -> None:
    """What is known to be bad is said first, and with the exit code."""
    unknown = found(sockets_of(BIG, range(LOW, LOW + 300), State.TIME_WAIT))
    assert answer(unknown, critical=["left < 1s"])[0] is Status.UNKNOWN
    assert answer(unknown, warning=["used > 0"], critical=["left < 1s"])[0] is Status.WARNING
    assert answer(unknown, warning=["left < 1s"], critical=["used > 0"])[0] is Status.CRITICAL


def test_line_is_one_and_has_one_bar() -> None:
    """A bar in a text would begin the performance data, and a line feed the long output."""
    _, line = answer(USUAL, summary="a|b\nc")
    assert "\n" not in line
    assert "|" not in line


def test_fault_is_one_line() -> None:
    """With its hint; a condition stands behind its fault, without the caret."""
    assert unknown_line(EnvironmentFault("no such namespace: blue", "ip netns list")) == (
        "CONNBENCH UNKNOWN - no such namespace: blue (ip netns list)"
    )
    with pytest.raises(UsageError) as caught:
        parse_condition("usd > 1")
    assert unknown_line(caught.value) == (
        "CONNBENCH UNKNOWN - --fail-if: there is no metric 'usd': usd > 1 (did you mean used?)"
    )
