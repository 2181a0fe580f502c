"""Differences of two results besides their figures: every possible reason of a change is reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connbench.analysis.comparison import Difference, find_differences
from connbench.errors import Interrupted
from connbench.findings import Finding, Severity
from connbench.model import Endpoint, Link, Listener, Loop, Namespace, PortRange, Spread
from connbench.results.result import Origin, Result
from factories import BIND, PLAN, result_of, round_of, samples_of

SETTINGS = {"net.ipv4.ip_local_port_range": "9024 65535", "net.ipv4.tcp_timestamps": "1"}


def made(floor_ns: int | None = 600, settings: dict[str, str] | None = None, **plan: Any) -> Result:  # noqa: ANN401  # any field of Plan
    """A result of one sound round under a plan with some fields changed."""
    measured = round_of(samples_of([10_000] * 4))
    worker = replace(measured.report.workers[0], floor_ns=floor_ns)
    report = replace(measured.report, workers=(worker,), settings=SETTINGS | (settings or {}))
    result = result_of({BIND: [replace(measured, report=report)]})
    result.plan = replace(PLAN, **plan)
    return result


def within(environment: dict[str, object]) -> Result:
    """A result measured in another environment."""
    result = made()
    result.environment |= environment
    return result


def found(base: Result, new: Result) -> dict[str, Difference]:
    """The differences by their code."""
    listed = find_differences(base, new)
    assert len({difference.code for difference in listed}) == len(listed)
    return {difference.code: difference for difference in listed}


def test_like_results_have_none() -> None:
    """Same plan, environment and soundness: no difference, also with other strategies and more rounds."""
    more = made(rounds=7, strategies=(BIND, BIND))
    more.environment |= {"time": "2026-01-01T00:00:00+00:00", "load_1m": 0.3, "memory_available": 1}
    assert find_differences(made(), more) == []


@pytest.mark.parametrize(
    ("code", "other"),
    [
        ("kernel", {"kernel": "6.18.1"}),
        ("kernel-build", {"kernel_build": "#2 SMP"}),
        ("machine", {"machine": "aarch64"}),
        ("cpu-model", {"cpu_model": "another"}),
        ("cpu-count", {"cpu_count": 8}),
        ("governor", {"governor": "powersave"}),
        ("clock-source", {"clock_source": "hpet"}),
        ("connbench", {"connbench": "0.0.1"}),
    ],
)
def test_environment_that_matters_is_warned_of(code: str, other: dict[str, object]) -> None:
    """Another kernel, processor, governor, clock or connbench is a warning that has both values."""
    [difference] = found(made(), within(other)).values()
    assert (difference.code, difference.severity) == (code, Severity.WARNING)
    assert difference.new == str(*other.values())
    assert difference.text.endswith(f" in BASE, {difference.new} in NEW")


@pytest.mark.parametrize(
    ("code", "change", "shown"),
    [
        ("port-range", {"port_range": PortRange(10000, 10999)}, "10000-10999"),
        ("connections", {"connections": 99}, "99"),
        ("isolation", {"namespace": Namespace.HOST}, "host namespace"),
        ("listener", {"listener": Listener.ACCEPT}, "accept"),
        ("link", {"link": Link.VETH}, "veth"),
        ("loop", {"loop": Loop.PYTHON}, "Python"),
        ("delay", {"delay_ms": 2.0}, "2.0"),
        ("masquerade", {"masquerade": True}, "yes"),
    ],
)
def test_plan_that_matters_is_warned_of(code: str, change: dict[str, Any], shown: str) -> None:
    """Another range, number of connections, isolation or listener is a warning."""
    [difference] = found(made(), made(**change)).values()
    assert (difference.code, difference.severity, difference.new) == (code, Severity.WARNING, shown)


@pytest.mark.parametrize(
    ("code", "change", "shown"),
    [
        ("seed", {"seed": 2}, "2"),
        ("source", {"sources": ("127.0.0.1",)}, "127.0.0.1"),
        ("spread", {"spread": Spread.FILL}, "fill"),
        ("cpu", {"cpus": (1,)}, "1"),
        ("timeout", {"timeout": 1.0}, "1.0"),
    ],
)
def test_plan_that_hardly_matters_is_noted(code: str, change: dict[str, Any], shown: str) -> None:
    """Another seed, source, spread, CPU or time-out is a note."""
    [difference] = found(made(), made(**change)).values()
    assert (difference.code, difference.severity, difference.new) == (code, Severity.NOTE, shown)


def test_clock_of_another_kind_is_warned_of() -> None:
    """Instructions against time is a warning, and no other figure would show it."""
    difference = found(made(), within({"clock": "instructions"}))["clock"]
    assert difference.severity is Severity.WARNING
    assert difference.text == "what the clock counted: time in BASE, instructions in NEW"


def test_instructions_on_both_sides_are_noted() -> None:
    """Figures without caches are reported as such; a file from before the field of the clock holds time."""
    counted = within({"clock": "instructions"})
    assert found(counted, counted)["clock"].severity is Severity.NOTE
    assert found(made(), within({"clock": "time"})) == {}


def test_python_is_noted() -> None:
    """Another Python is a note: where it matters the harness floor shows it."""
    assert found(made(), within({"python": "3.13.0"}))["python"].severity is Severity.NOTE


def test_target_matters_where_it_is_not_ours() -> None:
    """A listener that is not connbench's own makes another target a difference; its own follows from the range."""
    other = Endpoint("127.0.0.1", 80)
    assert found(made(), made(targets=(other,))) == {}
    outside = made(listener=Listener.EXTERNAL)
    assert list(found(outside, made(listener=Listener.EXTERNAL, targets=(other,)))) == ["target"]


def test_number_of_targets_matters() -> None:
    """Each further target makes more ports available, with any listener."""
    two = (*PLAN.targets, Endpoint("127.9.9.2", 9022))
    assert list(found(made(), made(targets=two))) == ["target"]


def test_settings_of_the_namespace_are_compared() -> None:
    """A sysctl that the connections met differently is a warning; those that follow from the plan are not."""
    follows = {"net.ipv4.ip_local_port_range": "1 2", "net.core.somaxconn": "9"}
    listed = found(made(), made(settings={"net.ipv4.ip_local_reserved_ports": "9100", **follows}))
    assert list(listed) == ["net.ipv4.ip_local_reserved_ports"]
    assert listed["net.ipv4.ip_local_reserved_ports"].text == (
        "net.ipv4.ip_local_reserved_ports: not known in BASE, 9100 in NEW"
    )


def test_hash_table_of_the_host_is_the_same_table() -> None:
    """A namespace shows the host's table with a minus: the same size is no difference, another one is."""
    name = "net.ipv4.tcp_ehash_entries"
    assert found(made(settings={name: "-4096"}), made(settings={name: "4096"})) == {}
    assert list(found(made(settings={name: "-4096"}), made(settings={name: "8192"}))) == [name]


@pytest.mark.parametrize(("floor_ns", "told"), [(749, False), (751, True), (481, False), (479, True), (None, False)])
def test_harness_floor_is_reported_from_a_quarter_on(floor_ns: int | None, told: bool) -> None:
    """A floor more than 1.25 times the other's, either way, says that the machines were not alike."""
    listed = found(made(600), made(floor_ns))
    assert list(listed) == (["harness-floor"] if told else [])
    if told:
        assert listed["harness-floor"].base == "0.60 µs"


def test_unsound_file_comes_first() -> None:
    """An invalid finding of a file is invalid here too, before all others: the first, and how many follow."""
    overflow = {"TcpExt.ListenDrops": 3}
    sound, unsound = made(), made(seed=9)
    [measured] = unsound.rounds[BIND]
    broken = replace(measured, report=replace(measured.report, counters=overflow, established=0))
    unsound.rounds[BIND] = [broken]
    first, *rest = find_differences(sound, unsound)
    assert (first.code, first.severity, first.base) == ("unsound-new", Severity.INVALID, "")
    assert first.text == (
        "NEW is not sound: bind: the listener's queue overflowed (ListenDrops 3), and 1 more (connbench report)"
    )
    assert [difference.code for difference in rest] == ["seed"]
    assert find_differences(unsound, sound)[0].text.startswith("BASE is not sound: ")


def test_warnings_of_a_file_are_noted() -> None:
    """A file's own warnings are a note; partial rounds are counted elsewhere and make none."""
    noisy = made()
    noisy.known = (Finding("cpu-load", Severity.WARNING, "CPU load: 90 % in use", "stop it"),)
    cut = made()
    cut.add(BIND, round_of(samples_of([10_000] * 4), 2, fault=Interrupted(2)))
    listed = found(noisy, cut)
    assert {code: d.severity for code, d in listed.items()} == {"warned-base": Severity.NOTE}
    assert listed["warned-base"].text == "BASE has warnings of its own: CPU load: 90 % in use"


def test_csv_is_warned_of_instead_of_compared() -> None:
    """A file of attempts alone has neither plan nor environment, but perhaps the kernel, and a warning says so."""
    bare = Result(None, {"kernel": "6.1.0"}, rounds=made().rounds, origin=Origin.TALK_CSV, name="a.csv")
    listed = found(made(), bare)
    assert list(listed) == ["unknown-new", "kernel"]
    assert listed["unknown-new"].text.startswith("NEW is a talk CSV: ")
    assert listed["kernel"].text == "kernel: 6.8.0-test in BASE, 6.1.0 in NEW"
