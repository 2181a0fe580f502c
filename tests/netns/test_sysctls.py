"""--sysctl in real namespaces: the value is in force there, at both ends of a link, and the host's stays as it is."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allowed_namespace import NAMESPACE
from connbench.engine import network
from connbench.errors import EnvironmentFault, ExitCode, UsageError
from connbench.linux import namespace, sysctl
from connbench.linux.process import in_child
from connbench.linux.sysctl import RESERVED_PORTS
from connbench.model import Churn, Close, Link, Listener, Load, Namespace, Profile, RoundPlan
from connbench.model.time_wait import MOST_WAITING, TIMESTAMPS, TW_REUSE, TW_REUSE_DELAY
from connbench.portmodel.algorithm import algorithm_of
from connbench.portmodel.prediction import predict
from connbench.results.result import StrategyResult
from run_connbench import LOW, OVER_VETH, connbench, make_plan, measure, spec

PORTS = 16
VALUES = {
    TW_REUSE: ("0", "1", "2"),
    "net.ipv4.tcp_fin_timeout": ("1", "30", "60"),
    MOST_WAITING: ("0", "100"),
    TIMESTAMPS: ("0", "1", "2"),
    "net.ipv4.tcp_syncookies": ("0", "1", "2"),
    "net.ipv4.ip_autobind_reuse": ("0", "1"),
    "net.core.somaxconn": ("100", "4096"),
    RESERVED_PORTS: ("", "40001", "40000-40003,40010"),
    "net.ipv4.tcp_rmem": ("4096 8192 65536",),
}
PARTLY = st.sampled_from(
    [
        (name, value)
        for name, values in VALUES.items()
        for value in values
        if Path("/proc/sys", *name.split(".")).exists()
    ]
)
"""A sysctl that this kernel has, with a value."""


def load_of(values: dict[str, str], **others: Any) -> Load:  # noqa: ANN401  # any field of Load
    """A load with these sysctls."""
    return Load(sysctls=tuple(f"{name}={values[name]}" for name in sorted(values)), **others)


def churned(values: dict[str, str], **changes: Any) -> tuple[StrategyResult, int]:  # noqa: ANN401  # any field of Plan
    """With `plain` and these sysctls 24 of 64 ports filled, then 48 connections replaced by FIN.

    The other 40 ports last a tenth of a second: for the listener to close its end, and for tcp_tw_reuse_delay.

    Returns:
        What was measured in the churn, and how many of it fail by the model.
    """
    load = load_of(values, churn=Churn(48, Close.FIN, 400.0))
    strategy, fields = replace(spec("plain"), load=load), {"listener": Listener.ACCEPT, **changes}
    [_, predicted] = predict(make_plan(strategy, 64, 24, **fields), algorithm_of(os.uname().release))
    return measure(strategy, 64, 24, **fields), predicted.failures


def failures(strategy: StrategyResult) -> int:
    """The replacements that found no port."""
    [measured] = strategy.rounds
    wrong = measured.samples.errno[measured.samples.errno != 0].tolist()
    assert set(wrong) <= {errno.EADDRNOTAVAIL}
    return len(wrong)


def read_net() -> dict[str, bytes]:
    """Every sysctl under `net` of this process's namespace that can be read, but for counters and those of devices."""
    found = {}
    for path in Path("/proc/sys/net").rglob("*"):
        is_of_device = path.parts[5:6] in {("conf",), ("neigh",)} and path.parts[6:7] not in {("all",), ("default",)}
        if path.is_file() and os.access(path, os.R_OK) and not path.name.endswith("_count") and not is_of_device:
            try:
                found[str(path)] = path.read_bytes()
            except OSError:  # it cannot be read in this namespace
                continue
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(PARTLY, max_size=5, unique_by=lambda item: item[0]).map(dict))
def test_a_round_has_the_values_and_the_host_keeps_its_own(values: dict[str, str]) -> None:
    """Read inside at both ends of a veth link, and recorded; outside nothing differs from before."""
    before = read_net()
    strategy = replace(spec("plain"), load=load_of(values))
    plan = make_plan(strategy, PORTS, 4, **OVER_VETH)

    def work() -> list[dict[str, str]]:
        own = network.set_up(RoundPlan(plan, strategy, 1))
        here = sysctl.read_all(tuple(values))
        with own.listening_end():
            there = sysctl.read_all(tuple(values))
        return [here, there, {name: own.settings[name] for name in values}]

    assert in_child(work, "the network cannot be set up", "") == [values] * 3
    assert read_net() == before


@pytest.fixture
def reuse_at_once() -> dict[str, str]:
    """The sysctl with which connect() can take a port in TIME_WAIT after a ms: a test need not wait for a second."""
    if not Path("/proc/sys", *TW_REUSE_DELAY.split(".")).exists():
        pytest.skip("this kernel has no tcp_tw_reuse_delay (Linux 6.14)")
    return {TW_REUSE_DELAY: "1"}


@pytest.mark.parametrize("link", [Link.LOOPBACK, Link.VETH])
@pytest.mark.parametrize("reuse", [0, 1, 2])
def test_time_wait_by_tcp_tw_reuse(reuse: int, link: Link, reuse_at_once: dict[str, str]) -> None:
    """0 reuses no port in TIME_WAIT, 1 each, 2 each over the loopback. Of 48 replacements 8 lack a port if none is."""
    churn, predicted = churned({TW_REUSE: str(reuse), **reuse_at_once}, **(OVER_VETH if link is Link.VETH else {}))
    is_reused = reuse == 1 or (reuse == 2 and link is Link.LOOPBACK)
    assert (failures(churn), predicted) == ((0, 0) if is_reused else (8, 8))
    assert churn.rounds[0].report.settings[TW_REUSE] == str(reuse)


def test_no_reuse_without_timestamps(reuse_at_once: dict[str, str]) -> None:
    """tcp_timestamps 0 at both ends: connect() cannot tell an old segment from a new one."""
    churn, predicted = churned({TW_REUSE: "1", TIMESTAMPS: "0", **reuse_at_once}, **OVER_VETH)
    assert (failures(churn), predicted) == (8, 8)


def test_a_limit_of_time_wait() -> None:
    """Beyond tcp_max_tw_buckets a port is free at once; the kernel counts it, and TIME_WAIT has no more."""
    churn, predicted = churned({TW_REUSE: "0", MOST_WAITING: "2"})
    [measured] = churn.rounds
    assert (failures(churn), predicted) == (0, 0)
    assert measured.report.time_wait == 2
    assert measured.report.counters["TcpExt.TCPTimeWaitOverflow"] == 46


@pytest.mark.parametrize("name", ["plain", "bind"])
def test_reserved_ports_are_not_chosen(name: str) -> None:
    """By default a connection is opened for each of the others."""
    load = load_of({RESERVED_PORTS: f"{LOW + 1},{LOW + 4}-{LOW + 6}"})
    strategy = replace(spec(name), load=load)
    plan = make_plan(strategy, PORTS, PORTS)
    assert RoundPlan(plan, strategy, 1).capacity == PORTS - 4
    measured = measure(strategy, PORTS, PORTS).rounds[0].samples
    found = set(measured.port[measured.errno == 0].tolist())
    assert found == set(range(LOW, LOW + PORTS)) - {LOW + 1, LOW + 4, LOW + 5, LOW + 6}


def check(*settings: tuple[str, str]) -> None:
    """Check sysctls as the planner does, in the kind of namespace that this user may make."""
    namespace.check_sysctls(NAMESPACE, settings)


@pytest.mark.parametrize(
    "kind", [kind for kind in (Namespace.NETWORK, Namespace.USER) if NAMESPACE in {kind, Namespace.NETWORK}]
)
def test_values_one_after_the_other(kind: Namespace) -> None:
    """Those of a list are tried in one namespace, also of an ordinary user's; an empty one replaces another."""
    settings = [(RESERVED_PORTS, "40001"), (RESERVED_PORTS, ""), (TW_REUSE, "0"), (TW_REUSE, "1")]
    namespace.check_sysctls(kind, settings)
    with pytest.raises(EnvironmentFault, match="belongs to the whole host"):
        namespace.check_sysctls(kind, [("net.core.netdev_budget", "300")])


def test_a_profile_counts_the_ports_that_are_not_reserved() -> None:
    """At 100 % no port is left, at 50 % half of the others are in use, and no reserved one is."""
    values = {RESERVED_PORTS: f"{LOW}-{LOW + 7}"}
    for name in ("plain", "early"):
        strategy = replace(spec(name), load=load_of(values, profile=Profile((0.5, 1.0), 4)))
        [measured] = measure(strategy, 24, 24).rounds
        assert measured.samples.in_use.tolist() == [8] * 4 + [16] * 4
        assert (measured.samples.errno != 0).tolist() == [False] * 4 + [True] * 4
        assert min(measured.samples.port[:4]) >= LOW + 8


REFUSED = {
    "unknown": ("net.ipv4.tcp_tw_resue", "1", EnvironmentFault, "has no such sysctl", "mean net.ipv4.tcp_tw_reuse?"),
    "of the host": ("net.core.netdev_budget", "300", EnvironmentFault, "belongs to the whole host", "sysctl -w"),
    "read-only": ("net.ipv4.tcp_available_congestion_control", "x", EnvironmentFault, "only be read", "leave it out"),
    "out of bounds": ("net.ipv4.tcp_tw_reuse", "7", UsageError, "Invalid argument", "a value that the kernel keeps"),
    "a list": ("net.ipv4.tcp_tw_reuse", "0,1", UsageError, "Invalid argument", "sweep` takes a list"),
    "read back otherwise": ("net.ipv4.tcp_fin_timeout", "0x10", UsageError, "reads '16'", "the kernel keeps"),
    "empty": ("net.ipv4.tcp_fin_timeout", "", UsageError, "Invalid argument", "the kernel keeps"),
    "no such name": ("net.ipv4.tcp_congestion_control", "nope", UsageError, "No such file", "the kernel keeps"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "kind", "fault", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_a_namespace_does_not_take(name: str, value: str, kind: type[Exception], fault: str, hint: str) -> None:
    """Each with its own reason and way out; nothing is set on the host."""
    before = read_net()
    with pytest.raises((EnvironmentFault, UsageError)) as refused:
        check((TW_REUSE, "1"), (name, value))
    assert type(refused.value) is kind
    assert fault in refused.value.message
    assert hint in refused.value.hint
    assert read_net() == before


def test_a_sysctl_that_two_namespaces_share_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is the same one in both, as of a sysctl that the kernel registers once: it is refused unwritten."""
    shared = tmp_path / "shared"
    shared.write_text("7\n", encoding="ascii")
    monkeypatch.setattr(sysctl, "_path", lambda _: shared)
    with pytest.raises(EnvironmentFault, match="belongs to the whole host"):
        check(("net.ipv4.tcp_tw_reuse", "1"))
    assert shared.read_text(encoding="ascii") == "7\n"


def test_the_host_gets_its_value_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files with the same data behind them, as in a kernel with a fault: found out, refused, and put right."""

    def work() -> str:
        namespace.enter_new_namespace(NAMESPACE)  # it stands for the host's
        outer = os.open("/proc/self/ns/net", os.O_RDONLY)
        write = sysctl.write

        def write_both(name: str, value: str) -> None:
            write(name, value)
            with namespace.in_namespace(outer):
                write(name, value)

        monkeypatch.setattr(sysctl, "write", write_both)
        before = sysctl.read(TW_REUSE)
        with pytest.raises(EnvironmentFault, match="belongs to the whole host"):
            namespace.check_sysctls(Namespace.NETWORK, [(TW_REUSE, "0" if before != "0" else "1")])
        return "kept" if sysctl.read(TW_REUSE) == before else "changed"

    assert in_child(work, "no namespace", "") == "kept"


def test_a_run_says_what_it_set(tmp_path: Path) -> None:
    """In the heading, in the document's load, and in the settings read back, also one that no other run records."""
    before, output = read_net(), tmp_path / "r.json"
    options = ("--sysctl", "net.ipv4.tcp_fin_timeout=17", "--sysctl", "net.ipv4.tcp_tw_reuse=1")
    finished = connbench(
        *("run", "-q", "-n", "4", "--strategy", "plain", "--port-range", "40000-40015", *options, "-o", str(output))
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert finished.stdout.startswith("plain, tcp_fin_timeout=17, tcp_tw_reuse=1: ")
    document = json.loads(output.read_text(encoding="utf-8"))
    [strategy] = document["strategies"]
    assert strategy["strategy"]["load"]["sysctls"] == ["net.ipv4.tcp_fin_timeout=17", "net.ipv4.tcp_tw_reuse=1"]
    assert strategy["rounds"][0]["settings"]["net.ipv4.tcp_fin_timeout"] == "17"
    shown = connbench("report", str(output))
    assert shown.stdout.startswith("plain, tcp_fin_timeout=17, tcp_tw_reuse=1: ")
    assert read_net() == before


def test_a_sweep_takes_lists(tmp_path: Path) -> None:
    """Each combination of the values is a setting of its own, in the report as in a CSV file that is read back."""
    output = tmp_path / "s.csv"
    lists = ("--sysctl", "net.ipv4.tcp_tw_reuse=0,1", "--sysctl", f"{RESERVED_PORTS}=;40001,40003")
    words = ("sweep", "-q", "-n", "4", "--strategy", "plain", "--rounds", "1", "--port-range", "40000-40015")
    finished = connbench(*words, *lists, "-o", str(output))
    assert finished.returncode == ExitCode.OK, finished.stderr
    read = connbench("report", str(output)).stdout
    for reserved in ("", "40001,40003"):
        for reuse in (0, 1):
            label = f"plain, ip_local_reserved_ports={reserved}, tcp_tw_reuse={reuse}\n"
            assert label in finished.stdout
            assert label in read


def test_a_short_queue_needs_a_listener_that_accepts() -> None:
    """A backlog listener never empties its queue: with a somaxconn below the connections it is refused, or accept."""
    words = ("run", "-q", "-n", "40", "--strategy", "plain", "--port-range", "40000-40099")
    options = ("--sysctl", "net.core.somaxconn=20")
    refused = connbench(*words, *options, "--listener", "backlog")
    assert refused.returncode == ExitCode.USAGE
    assert "40 connections do not fit --sysctl net.core.somaxconn=20" in refused.stderr
    chosen = connbench(*words, *options, "--format", "json")
    assert json.loads(chosen.stdout)["plan"]["listener"] == "accept"
