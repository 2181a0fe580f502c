"""What the planner refuses before anything runs, and the defaults it fills in: the parts that need no network."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.errors import ConnbenchError, EnvironmentFault, UsageError
from connbench.linux import sysctl
from connbench.model import (
    MAX_PORT,
    Endpoint,
    Isolation,
    Listener,
    Load,
    Loop,
    Namespace,
    Phase,
    Placement,
    PortRange,
    Profile,
    Protocol,
    Reuse,
    RoundPlan,
    StrategySpec,
)
from connbench.planner.endpoints import choose_sources, choose_targets, find_listener_in_range, listener_endpoint
from connbench.planner.namespaces import (
    choose_ehash_entries,
    choose_listener,
    choose_namespace,
    choose_range,
    find_reserved,
    find_short_queue,
)
from connbench.planner.planner import C_LOOP, choose_loop, plan_offline
from connbench.planner.request import RunRequest
from connbench.planner.workload import choose_strategies, find_slow_levels, with_all_strategies
from connbench.strategies import STRATEGIES
from factories import LONG, PLAIN, PLAN, PORTS, unhurried

OWN = Endpoint("127.9.9.2", 9023)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("127.0.0.1", "has no port"),
        ("127.0.0.1:", "has no port"),
        (":8080", "has no port"),
        ("", "has no port"),
        ("127.0.0.1:http", "has no port"),
        ("127.0.0.1:-1", "has no port"),
        ("127.0.0.1:80.0", "has no port"),
        ("127.0.0.1:0", "port 0 is outside 1-65535"),
        ("127.0.0.1:65536", "port 65536 is outside 1-65535"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80 is not a loopback address"),
        ("192.0.2.1:80", "192.0.2.1:80 is not a loopback address"),
    ],
)
def test_target_that_cannot_be_is_refused(text: str, fault: str) -> None:
    """A target without a port, beyond the ports or on another machine is wrong usage, with a remedy."""
    with pytest.raises(UsageError) as caught:
        choose_targets((text,), allow_remote=False)
    assert fault in caught.value.message
    assert caught.value.message.startswith("--target ")
    assert caught.value.hint


@pytest.mark.parametrize("text", ["127..1:80", ".127.0.0.1:80", f"{'a' * 64}.example:80"])
def test_target_that_can_be_no_name_is_refused(text: str) -> None:
    """A host with an empty or overlong part is a fault with a message, not an exception of Python's name encoding."""
    with pytest.raises(ConnbenchError, match=r"^--target "):
        choose_targets((text,), allow_remote=False)


def test_no_target_is_left_open() -> None:
    """Without --target there is none: connbench listens itself."""
    assert choose_targets((), allow_remote=False) == ((), ())


@pytest.mark.parametrize(
    ("text", "remote", "expected"),
    [
        ("127.0.0.1:1", False, Endpoint("127.0.0.1", 1)),
        ("127.9.9.2:65535", False, Endpoint("127.9.9.2", 65535)),
        ("[::1]:80", False, Endpoint("::1", 80)),
        ("::1:80", False, Endpoint("::1", 80)),
        ("192.0.2.1:80", True, Endpoint("192.0.2.1", 80)),
    ],
)
def test_target_is_an_address_and_a_port(text: str, remote: bool, expected: Endpoint) -> None:
    """A numeric target is used as it is; one on another machine only if that is allowed."""
    assert choose_targets((text,), allow_remote=remote)[0] == (expected,)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("::1", "--source ::1 and target 127.9.9.2:9023 are not both IPv4"),
        ("localhost", "--source 'localhost' is not an IP address"),
        ("127.0.0.256", "--source '127.0.0.256' is not an IP address"),
        ("127.0.0.1:80", "--source '127.0.0.1:80' has a port"),
        ("[2001:db8::1]:80", "--source '[2001:db8::1]:80' has a port"),
        ("127.0.0.1:http", "--source '127.0.0.1:http' is not an IP address"),
        ("", "--source '' is not an IP address"),
    ],
)
def test_source_that_is_no_address_is_refused(source: str, fault: str) -> None:
    """A source has to be a numeric address of the target's family."""
    with pytest.raises(UsageError) as caught:
        choose_sources(source, None, OWN, Namespace.NETWORK)
    assert caught.value.message.startswith(fault)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("target", "namespace", "expected"),
    [
        (OWN, Namespace.NETWORK, "127.9.9.1"),
        (Endpoint("127.0.0.1", 80), Namespace.HOST, "127.9.9.1"),
        (Endpoint("2001:db8::2", 80), Namespace.NETWORK, "2001:db8::1"),
        (Endpoint("::1", 80), Namespace.HOST, "::1"),
    ],
)
def test_source_is_the_default_one_of_the_targets_family(target: Endpoint, namespace: Namespace, expected: str) -> None:
    """Without --source it is the talk's address, or that of the namespace's own prefix; on the host ::1."""
    assert choose_sources(None, None, target, namespace) == (expected,)


@pytest.mark.parametrize(("host", "source"), [("127.0.0.1", "127.0.0.1"), ("127.9.9.2", "127.0.0.1")])
def test_source_towards_a_listener_of_somebody_elses_is_the_kernels_choice(host: str, source: str) -> None:
    """Such a listener sees binding strategies come from the address that plain connect() comes from."""
    target = Endpoint(host, 80)
    assert choose_sources(None, None, target, Namespace.HOST, external=True) == (source,)


@pytest.mark.parametrize(("namespace", "host"), [(Namespace.NETWORK, "2001:db8::2"), (Namespace.HOST, "::1")])
def test_own_listener_of_ipv6(namespace: Namespace, host: str) -> None:
    """Its address is in the namespace's prefix, or the loopback's where there is none."""
    assert listener_endpoint(PortRange(40000, 40009), namespace, 6).host == host
    assert str(Endpoint(host, 80)) == f"[{host}]:80"


@pytest.mark.parametrize(
    ("ports", "port"),
    [
        (PORTS, 9023),
        (PortRange(1025, MAX_PORT), 1024),
        (PortRange(1025, 60000), 1024),
        (PortRange(1024, 60000), 60001),
        (PortRange(1024, MAX_PORT), 1023),
        (PortRange(500, MAX_PORT), 499),
        (PortRange(2, MAX_PORT), 1),
        (PortRange(1, 65534), MAX_PORT),
    ],
)
def test_own_listener_is_beside_the_range(ports: PortRange, port: int) -> None:
    """The listener takes the port below the range, else above it, and a privileged one only if it has to."""
    assert listener_endpoint(ports, Namespace.NETWORK) == Endpoint("127.9.9.2", port)


def test_own_listener_of_a_range_of_all_ports_is_in_it() -> None:
    """Where the range leaves no port the listener takes its last one, and a finding says so."""
    ports = PortRange(1, MAX_PORT)
    endpoint = listener_endpoint(ports, Namespace.USER)
    assert endpoint.port == MAX_PORT
    assert [finding.code for finding in find_listener_in_range((endpoint,), ports)] == ["listener-in-range"]


@given(st.tuples(st.integers(1, MAX_PORT), st.integers(1, MAX_PORT)).map(sorted))
@unhurried
def test_own_listener_takes_a_port_of_the_range_only_if_it_says_so(ends: list[int]) -> None:
    """The listener's port is in the range exactly if a finding names it."""
    ports = PortRange(*ends)
    endpoint = listener_endpoint(ports, Namespace.NETWORK)
    assert 1 <= endpoint.port <= MAX_PORT
    assert (endpoint.port in ports) == bool(find_listener_in_range((endpoint,), ports))


def test_listeners_in_the_range_are_one_finding() -> None:
    """For thousands of targets there is one finding, with the first of the ports."""
    ports = PortRange(40000, 49999)
    targets = tuple(Endpoint(f"127.0.1.{host}", 40000 + host % 50) for host in range(1, 255))
    [of_one] = find_listener_in_range((targets[0], Endpoint("127.0.0.1", 80)), ports)
    assert "the listener's port 40001 is in the range 40000-49999" in of_one.message
    [of_many] = find_listener_in_range(targets, ports)
    assert "ports 40000, 40001, 40002, 40003, 40004 and 45 more are in the range" in of_many.message
    assert "50 connections fewer may fit" in of_many.advice


def test_targets_are_compared_by_number_of_targets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target is looked up in a set, and not compared with each: 25,000 took half a minute."""
    compared = 0

    def equals(one: Endpoint, other: object) -> bool:
        nonlocal compared
        compared += 1
        return isinstance(other, Endpoint) and (one.host, one.port) == (other.host, other.port)

    monkeypatch.setattr(Endpoint, "__eq__", equals)
    texts = tuple(f"127.0.{host}.1:{port}" for host in range(10) for port in range(1, 201))
    assert len(choose_targets(texts, allow_remote=False)[0]) == len(texts)
    assert compared <= len(texts)
    with pytest.raises(UsageError, match=r"--target 127\.0\.0\.1:0200: 127\.0\.0\.1:200 is named twice"):
        choose_targets((*texts, "127.0.0.1:0200"), allow_remote=False)
    with pytest.raises(UsageError, match="65,537 --target are too many"):
        choose_targets(("127.0.0.1:80",) * 65_537, allow_remote=False)


def test_default_strategies_have_their_defaults() -> None:
    """Without --strategy there are four, the window of 500 ports inside the range, `random` without a bound."""
    assert choose_strategies(RunRequest(), PORTS) == (
        StrategySpec("plain"),
        StrategySpec("bind"),
        StrategySpec("random"),
        StrategySpec("window", 500, Placement.INSIDE, 0),
    )


def test_strategies_keep_their_order_and_take_what_they_know() -> None:
    """Each strategy gets the parameters it takes; the order is that of the options."""
    request = RunRequest(
        strategies=("partition", "window", "random", "range"), window=10_000, placement=Placement.CLIPPED, retries=1000
    )
    assert choose_strategies(request, PORTS) == (
        StrategySpec("partition", 10_000),
        LONG,
        StrategySpec("random", retries=1000),
        StrategySpec("range"),
    )


def test_no_retries_is_other_than_no_say() -> None:
    """--retries 0 bounds `random` to one try."""
    assert choose_strategies(RunRequest(strategies=("random",), retries=0), PORTS) == (
        StrategySpec("random", retries=0),
    )


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (RunRequest(strategies=("best",)), "unknown strategy 'best'"),
        (RunRequest(strategies=("Plain",)), "unknown strategy 'Plain'"),
        (RunRequest(strategies=("bind", "bind")), "strategy bind is named twice"),
        (RunRequest(window=len(PORTS) + 1), "--window 56513 does not fit the 56512 ports of 9024-65535"),
        (RunRequest(window=0), "--window 0 does not fit"),
        (RunRequest(window=-1), "--window -1 does not fit"),
        (RunRequest(strategies=("partition",), window=0), "--window 0 does not fit"),
        (RunRequest(strategies=("plain", "bind"), window=500), "--window does nothing for plain, bind"),
        (RunRequest(strategies=("partition",), placement=Placement.INSIDE), "--placement does nothing for partition"),
        (RunRequest(strategies=("partition", "range"), retries=0), "--retries does nothing for partition, range"),
        (RunRequest(source="127.0.0.1"), "--source 127.0.0.1: plain cannot choose its source"),
        (RunRequest(source="127.0.0.1:80"), "--source '127.0.0.1:80' has a port"),
        (RunRequest(source="localhost"), "--source 'localhost' is not an IP address"),
        (RunRequest(strategies=("bind", "plain"), source="127.0.0.1"), "plain cannot choose its source"),
    ],
)
def test_strategies_that_cannot_be_are_refused(request_: RunRequest, fault: str) -> None:
    """An unknown or repeated name, a window that fits no range, and a parameter of no strategy are wrong usage."""
    with pytest.raises(UsageError) as caught:
        choose_strategies(request_, PORTS)
    assert fault in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        (RunRequest(strategies=("plain",), window=5), "it is for window, partition"),
        (RunRequest(strategies=("plain",), placement=Placement.CLIPPED), "it is for window"),
        (RunRequest(strategies=("plain",), retries=1), "it is for random, sequential, window"),
        (RunRequest(strategies=("plain", "range"), reuse=Reuse.PORT), "it is for early, random, sequential"),
        (RunRequest(strategies=("random",), first_port=9024), "it is for sequential"),
        (RunRequest(strategies=("partition",), stride=8), "it is for random, sequential, window, range"),
        (RunRequest(strategies=("random",), residue=3), "add --stride K, or leave it out"),
    ],
)
def test_parameter_in_vain_is_refused_with_those_that_take_it(request_: RunRequest, hint: str) -> None:
    """The hint for a parameter without effect names the strategies that it is for."""
    with pytest.raises(UsageError) as caught:
        choose_strategies(request_, PORTS)
    assert caught.value.hint == hint


OF_SHARDS = ("random", "sequential", "window", "range")


@pytest.mark.parametrize(
    ("asked", "fault", "hint"),
    [
        (RunRequest(OF_SHARDS, stride=8, residue=8), "--residue 8 is no remainder of --stride 8", "give 0 to 7"),
        (
            RunRequest(OF_SHARDS, stride=8, residue=3),
            "--stride 8: no port of 20-24 has port % 8 = 3",
            "8 ports or more",
        ),
        (RunRequest(OF_SHARDS, stride=8, window=2), "--window 2 and --stride 8", "leave out --window"),
        (
            RunRequest(OF_SHARDS, stride=8, placement=Placement.CLIPPED),
            "--placement clipped and",
            "leave out --placement",
        ),
        (RunRequest(OF_SHARDS, first_port=25), "--from 25 is not in the range 20-24", "give 20 to 24"),
        (RunRequest(OF_SHARDS, first_port=19), "--from 19 is not in the range 20-24", "give 20 to 24"),
    ],
)
def test_ports_that_a_strategy_cannot_take_are_refused(asked: RunRequest, fault: str, hint: str) -> None:
    """A remainder that no port has, a window of more than the one port that a stride leaves, a start outside."""
    with pytest.raises(UsageError) as caught:
        choose_strategies(asked, PortRange(20, 24))
    assert fault in caught.value.message
    assert hint in caught.value.hint


def test_each_strategy_gets_the_parameters_that_it_takes() -> None:
    """--stride alone means the remainder 0; whoever takes none of the options runs beside those that do."""
    asked = RunRequest(("plain", "early", *OF_SHARDS), reuse=Reuse.ADDRESS, first_port=22, stride=3)
    specs = {spec.name: spec for spec in choose_strategies(asked, PortRange(20, 29))}
    assert specs["plain"] == StrategySpec("plain")
    assert specs["early"] == StrategySpec("early", reuse=Reuse.ADDRESS)
    assert specs["random"] == StrategySpec("random", reuse=Reuse.ADDRESS, stride=3, residue=0)
    assert specs["sequential"] == replace(specs["random"], name="sequential", first_port=22)
    assert specs["window"] == StrategySpec("window", 1, Placement.INSIDE, 0, stride=3, residue=0)
    assert specs["range"] == StrategySpec("range", stride=3, residue=0)
    assert [list(spec.port_numbers(PortRange(20, 29))) for spec in specs.values()][2:] == [[21, 24, 27]] * 4
    assert specs["sequential"].port_arguments == ("--reuse-address", "--from 22", "--stride 3")


def test_connect_is_given_no_reserved_port() -> None:
    """With a stride IP_LOCAL_PORT_RANGE names one port at a time; of those that are reserved every try would fail."""
    reserved = frozenset({23})
    for name in OF_SHARDS:
        asked = RunRequest((name,), port_range=PortRange(20, 29), stride=3, residue=1)
        if STRATEGIES[name].chooses_port:
            assert plan_offline(asked, reserved).connections == 3
            continue
        with pytest.raises(UsageError, match=f"--stride with {name}: connect.. never takes a reserved port") as caught:
            plan_offline(asked, reserved)
        assert "--strategy random" in caught.value.hint
        with pytest.raises(UsageError, match=r"and 1 of 20-29 are reserved"):
            plan_offline(replace(asked, sysctls=(f"{sysctl.RESERVED_PORTS}=22,23",)))


@pytest.mark.parametrize("width", [1, 10])
def test_window_may_be_from_one_port_to_the_whole_range(width: int) -> None:
    """The narrowest and the widest possible window are accepted."""
    [spec] = choose_strategies(RunRequest(strategies=("window",), window=width), PortRange(20, 29))
    assert spec.window == width


@pytest.mark.parametrize("name", ["window", "partition"])
def test_default_window_is_cut_to_a_small_range(name: str) -> None:
    """Without --window a range of fewer than 500 ports is one window."""
    [spec] = choose_strategies(RunRequest(strategies=(name,)), PortRange(20, 29))
    assert spec.window == 10


def test_window_that_does_not_fit_is_refused_with_those_that_do() -> None:
    """The hint for a window that does not fit gives the widths that would."""
    with pytest.raises(UsageError) as caught:
        choose_strategies(RunRequest(strategies=("window",), window=11), PortRange(20, 29))
    assert caught.value.message == "--window 11 does not fit the 10 ports of 20-29"
    assert caught.value.hint == "give 1 to 10"
    with pytest.raises(UsageError, match="--window 2 does not fit the 1 port of 20-20"):
        choose_strategies(RunRequest(("window",), window=2), PortRange(20, 20))


def test_parameter_that_one_strategy_takes_is_no_fault_of_the_others() -> None:
    """--window goes to the strategies that take it, and the others ignore it."""
    plain, window = choose_strategies(RunRequest(strategies=("plain", "window"), window=7), PORTS)
    assert (plain, window.window) == (PLAIN, 7)


def test_range_is_the_talks_in_a_namespace_of_its_own() -> None:
    """Where the range can be set, it is the asked-for one, or the talk's."""
    asked = PortRange(20, 29)
    assert choose_range(RunRequest(), Namespace.NETWORK) == PORTS
    assert choose_range(RunRequest(("plain",), port_range=asked), Namespace.USER) == asked
    assert choose_range(RunRequest(port_range=PortRange(7, 8)), Namespace.NETWORK) == PortRange(7, 8)


def test_hash_table_is_a_power_of_two_in_a_namespace_of_its_own() -> None:
    """The kernel rounds up; it cannot resize the host's table, and UDP has none of that kind."""
    asked = RunRequest(ehash_entries=3_000_000)
    assert choose_ehash_entries(asked, Namespace.NETWORK, external=False) == 1 << 22
    assert choose_ehash_entries(RunRequest(ehash_entries=1), Namespace.USER, external=False) == 1
    assert choose_ehash_entries(RunRequest(), Namespace.HOST, external=False) is None
    with pytest.raises(UsageError, match="--ehash-entries 3000000: the host's namespace has a table") as refused:
        choose_ehash_entries(replace(asked, isolate=Isolation.NEVER), Namespace.HOST, external=False)
    assert refused.value.hint == "leave out --ehash-entries; or leave out --isolate never"
    with pytest.raises(UsageError, match="does nothing for UDP"):
        choose_ehash_entries(replace(asked, protocol=Protocol.UDP), Namespace.NETWORK, external=False)


@pytest.mark.parametrize(
    ("asked", "external", "expected"),
    [
        (None, False, Listener.BACKLOG),
        (Listener.ACCEPT, False, Listener.ACCEPT),
        (Listener.BACKLOG, False, Listener.BACKLOG),
        (None, True, Listener.EXTERNAL),
    ],
)
def test_nobody_accepts_where_the_queue_can_be_made_long_enough(
    asked: Listener | None, external: bool, expected: Listener
) -> None:
    """In a namespace of its own the queue holds any number of connections."""
    assert choose_listener(RunRequest(listener=asked), Namespace.NETWORK, 10_000_000, external=external) is expected


@pytest.mark.parametrize(
    ("asked", "connections", "expected"),
    [
        (None, 20, Listener.BACKLOG),
        (None, 21, Listener.ACCEPT),
        (Listener.ACCEPT, 20, Listener.ACCEPT),
        (Listener.BACKLOG, 20, Listener.BACKLOG),
    ],
)
def test_a_queue_that_sysctl_shortens(asked: Listener | None, connections: int, expected: Listener) -> None:
    """With --sysctl net.core.somaxconn=20 a listener leaves 20 connections in its queue; more are accepted."""
    request = RunRequest(listener=asked)
    found = choose_listener(request, Namespace.NETWORK, connections, external=False, somaxconn=20)
    assert found is expected
    with pytest.raises(UsageError, match=f"21 connections do not fit --sysctl {sysctl.SOMAXCONN}=20"):
        choose_listener(RunRequest(listener=Listener.BACKLOG), Namespace.NETWORK, 21, external=False, somaxconn=20)


def test_a_queue_too_short_for_a_moment_is_found() -> None:
    """A listener that accepts can be late: with a short queue the kernel drops SYNs meanwhile. Others are not asked."""
    for somaxconn, listener, number in (
        (127, Listener.ACCEPT, 1),
        (128, Listener.ACCEPT, 0),
        (127, Listener.BACKLOG, 0),
        (127, Listener.NONE, 0),
    ):
        specs = (PLAIN, replace(PLAIN, load=Load(sysctls=(f"{sysctl.SOMAXCONN}={somaxconn}",))))
        found = find_short_queue(replace(PLAN, strategies=specs, listener=listener))
        assert [finding.code for finding in found] == ["short-queue"] * number
    assert find_short_queue(replace(PLAN, listener=Listener.ACCEPT)) == []


def test_reserved_ports_of_each_setting() -> None:
    """What a setting names takes the place of the plan's; each list has a finding, and a setting its own capacity."""
    named = [Load(sysctls=(f"{sysctl.RESERVED_PORTS}={text}",)) for text in ("", "40000-40004", "1-39999")]
    specs = tuple(StrategySpec("plain", load=load) for load in (Load(), *named))
    ports = PortRange(40000, 40009)
    plan = replace(PLAN, strategies=specs, port_range=ports, reserved=1)
    assert [RoundPlan(plan, spec, 1).capacity for spec in specs] == [9, 10, 5, 10]
    found = [finding.message for finding in find_reserved(plan, frozenset({40007}))]
    assert [message.partition(" ports")[0] for message in found] == ["1 of the 10", "5 of the 10"]
    assert f"({sysctl.RESERVED_PORTS}=40000-40004)" in found[1]


def test_range_on_the_host_is_the_hosts() -> None:
    """Where the range cannot be set it is the host's, asked for or not, and every strategy searches it."""
    host = PortRange(*sysctl.read_port_range())
    assert choose_range(RunRequest(), Namespace.HOST) == host
    assert choose_range(RunRequest(("plain",), port_range=host), Namespace.HOST) == host


def test_part_of_the_hosts_range_is_for_strategies_that_can_keep_to_it() -> None:
    """In the host's namespace a smaller range is possible, but not for strategies that search the host's range."""
    host = PortRange(*sysctl.read_port_range())
    part = PortRange(host.low, host.high - 1)
    assert choose_range(RunRequest(("random", "window"), port_range=part), Namespace.HOST) == part
    for names, named in [
        (("window", "bind"), "bind searches"),
        (("plain",), "plain searches"),
        (("bind", "plain"), "plain and bind search"),
        ((), "plain and bind search"),
    ]:
        with pytest.raises(UsageError, match=f"in the host's namespace {named} the host's {host}"):
            choose_range(RunRequest(names, port_range=part), Namespace.HOST)


def test_range_beyond_the_hosts_is_refused() -> None:
    """The kernel ignores bounds outside the host's range, so the planner refuses them."""
    host = PortRange(*sysctl.read_port_range())
    with pytest.raises(UsageError, match=f"is not inside the host's {host}"):
        choose_range(RunRequest(("window",), port_range=PortRange(host.low - 1, host.high)), Namespace.HOST)


def test_a_program_binds_to_ports_beyond_the_hosts_range() -> None:
    """The range of the host binds the kernel's search, and no program that names its ports."""
    host = PortRange(*sysctl.read_port_range())
    asked = PortRange(host.low - 1, host.high)
    assert choose_range(RunRequest(("random", "sequential"), port_range=asked), Namespace.HOST) == asked


def test_listener_on_the_host_depends_on_its_somaxconn() -> None:
    """While the host's queue holds all connections there is no acceptor; beyond that there is one, or a refusal."""
    somaxconn = int(sysctl.read(sysctl.SOMAXCONN))
    for asked, connections, expected in (
        (None, somaxconn, Listener.BACKLOG),
        (None, somaxconn + 1, Listener.ACCEPT),
        (Listener.BACKLOG, somaxconn, Listener.BACKLOG),
        (Listener.ACCEPT, somaxconn, Listener.ACCEPT),
        (Listener.ACCEPT, somaxconn + 1, Listener.ACCEPT),
    ):
        assert choose_listener(RunRequest(listener=asked), Namespace.HOST, connections, external=False) is expected
    with pytest.raises(EnvironmentFault, match=f"{somaxconn + 1} connections do not fit the host's somaxconn"):
        choose_listener(RunRequest(listener=Listener.BACKLOG), Namespace.HOST, somaxconn + 1, external=False)


def test_host_namespace_asked_for_needs_no_telling() -> None:
    """--isolate never says it already, and makes no finding."""
    assert choose_namespace(RunRequest(isolate=Isolation.NEVER), external=False) == (Namespace.HOST, [])


def test_external_target_is_measured_from_where_it_listens() -> None:
    """A target that listens already is reachable from the host's namespace alone, and a finding says why."""
    for host, why in (("127.0.0.1", "the target listens in it"), ("192.0.2.1", "has no route to the target")):
        namespace, [finding] = choose_namespace(RunRequest(), (Endpoint(host, 80),), external=True)
        assert namespace is Namespace.HOST
        assert finding.code == "host-namespace"
        assert why in finding.text


def test_external_target_cannot_be_isolated() -> None:
    """--isolate always and a target outside contradict each other."""
    with pytest.raises(UsageError, match="--isolate always cannot reach a --target outside its namespace"):
        choose_namespace(RunRequest(isolate=Isolation.ALWAYS), external=True)


def test_the_loop_in_c_is_the_default_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --loop the loop in C runs if it can be loaded; --loop python runs the other one all the same."""
    monkeypatch.setitem(sys.modules, C_LOOP, ModuleType(C_LOOP))
    assert [choose_loop(asked) for asked in (None, Loop.C, Loop.PYTHON)] == [Loop.C, Loop.C, Loop.PYTHON]


def test_the_loop_in_c_is_refused_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extension the loop in Python runs; --loop c says what to install."""
    monkeypatch.setitem(sys.modules, C_LOOP, None)  # import raises ModuleNotFoundError
    assert [choose_loop(asked) for asked in (None, Loop.PYTHON)] == [Loop.PYTHON, Loop.PYTHON]
    with pytest.raises(EnvironmentFault, match=r"^--loop c: connbench was installed without its loop in C$") as caught:
        choose_loop(Loop.C)
    assert "Debian: gcc and python3-dev" in caught.value.hint


def test_a_profile_is_of_all_strategies_that_the_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without IP_LOCAL_PORT_RANGE three are left out, and those that cannot name a port fill each level themselves."""
    monkeypatch.setattr("connbench.planner.workload.is_supported", lambda option: option.name != "IP_LOCAL_PORT_RANGE")
    request, missing = with_all_strategies(RunRequest(levels=(0.5, 1.0), samples=7))
    assert request.strategies == ("plain", "bind", "early", "random", "sequential")
    assert [found.code for found in missing] == ["unsupported"] * 3
    strategies = choose_strategies(request, PORTS)
    assert {spec.load.profile for spec in strategies} == {Profile((0.5, 1.0), 7)}
    [slow] = find_slow_levels(replace(PLAN, strategies=strategies))
    assert slow.message.startswith("plain and bind: ")
    monkeypatch.setattr("connbench.planner.workload.is_supported", lambda _option: True)
    assert len(with_all_strategies(request)[0].strategies) == len(STRATEGIES)
    assert find_slow_levels(replace(PLAN, strategies=strategies)) == []


def test_a_round_of_a_profile_has_attempts_at_each_level() -> None:
    """The listener's queue gets them beside the connections that are in use at the highest level."""
    strategy = replace(PLAIN, load=Load(profile=Profile((0.25, 0.5), 7)))
    planned = RoundPlan(replace(PLAN, strategies=(strategy,), port_range=PortRange(1000, 1099)), strategy, 1)
    assert (planned.levels, planned.connections, planned.rows, planned.handshakes) == ((25, 50), 50, 14, 64)
    [phase] = strategy.phases
    assert (phase.phase, list(planned.rows_of(phase.phase))) == (Phase.PROFILE, list(range(14)))
