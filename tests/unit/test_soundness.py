"""The findings about a measurement: each from a round that has just that fault."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.knee import knee_of
from connbench.analysis.soundness import findings
from connbench.errors import Interrupted, RunFault
from connbench.findings import Finding, Severity
from connbench.model import Churn, Close, Listener, Load, Namespace, Phase, Reuse
from connbench.model.round_report import OVERFLOW_COUNTERS
from connbench.report.formats import FORMATS
from connbench.results.result import Origin, Result, Round
from connbench.samples import UNKNOWN_ERRNO
from factories import BIND, PLAIN, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of

CLEAN = round_of(samples_of([20_000] * 100))


def found_in(measured: Round, listener: Listener = Listener.BACKLOG) -> list[Finding]:
    """The findings about a run of this one round."""
    return findings(result_of({BIND: [measured]}, replace(PLAN, listener=listener)))


def counting(measured: Round, **counters: int) -> Round:
    """The round, with further TcpExt counters moved."""
    moved = {f"TcpExt.{name}": value for name, value in counters.items()}
    return replace(measured, report=replace(measured.report, counters=measured.report.counters | moved))


def with_workers(measured: Round, *, switches: tuple[int, ...] = (0,), lost: int = 0, floor_ns: int = 600) -> Round:
    """The round with its workers' figures changed: interruptions, lost connections, or another floor."""
    [worker] = measured.report.workers
    workers = tuple(replace(worker, involuntary_switches=number, floor_ns=floor_ns) for number in switches)
    return replace(
        measured, report=replace(measured.report, workers=workers, established=measured.report.established - lost)
    )


def test_clean_round_has_no_finding() -> None:
    """A round without faults has no finding, failed attempts included: those are what connbench measures."""
    exhausted = samples_of([20_000] * 100, errno=[errno.EADDRNOTAVAIL] * 50 + [0] * 50)
    assert found_in(CLEAN) == []
    assert found_in(round_of(exhausted)) == []


@pytest.mark.parametrize("name", OVERFLOW_COUNTERS)
def test_overflow_makes_the_figures_invalid(name: str) -> None:
    """The finding names the counter of dropped or deferred handshakes that moved, with its number."""
    [found] = found_in(counting(CLEAN, **{name.removeprefix("TcpExt."): 7}))
    assert (found.code, found.severity) == ("listener-overflow", Severity.INVALID)
    assert found.message == f"the listener's queue overflowed ({name.removeprefix('TcpExt.')} 7)"


def test_overflow_counters_are_one_finding() -> None:
    """Counters that move together make one finding."""
    [found] = found_in(counting(CLEAN, ListenOverflows=3, ListenDrops=4))
    assert found.message.endswith("(ListenOverflows 3, ListenDrops 4)")


def test_advice_for_an_overflow_depends_on_whose_listener_it_is() -> None:
    """Only its own listener gets a longer queue from connbench."""
    overflowing = counting(CLEAN, ListenOverflows=1)
    [own] = found_in(overflowing)
    [external] = found_in(overflowing, Listener.EXTERNAL)
    assert "--isolate always" in own.advice
    assert "somaxconn" in external.advice


def test_syn_retransmission_makes_the_figures_invalid() -> None:
    """A SYN that was sent again waited for a timer, which is no port search."""
    [found] = found_in(counting(CLEAN, TCPSynRetrans=2))
    assert (found.code, found.severity) == ("syn-retransmission", Severity.INVALID)
    assert "TCPSynRetrans 2" in found.message


def test_in_flight_no_connect_waits_for_a_lost_syn() -> None:
    """Where the handshake is timed apart, a SYN that was sent again is in its time, and not in that of connect()."""
    spec = replace(BIND, load=Load(in_flight=10))
    lost = counting(round_of(samples_of([10_000] * 4, errno=[0, 0, 0, errno.EINPROGRESS])), TCPSynRetrans=2)
    sent_again, unanswered = findings(result_of({spec: [lost]}))
    assert (sent_again.code, sent_again.severity) == ("syn-retransmission", Severity.WARNING)
    assert sent_again.message.endswith("their handshakes waited for a timer, and no connect() did")
    assert (unanswered.code, unanswered.severity) == ("timed-out", Severity.INVALID)
    assert unanswered.message.startswith("1 handshakes had no answer to the SYN within --timeout")


def advice_on_retransmission(
    load: Load, listener: Listener, phase: Phase | None = None, *, masquerade: bool = False, **moved: int
) -> str:
    """The advice where a SYN was sent again under a load; in the churn, where it has one."""
    measured = counting(CLEAN, TCPSynRetrans=1, **moved)
    spec = replace(BIND, load=load, phase=phase or (Phase.CHURN if load.churn else Phase.FILL))
    found = findings(result_of({spec: [measured]}, replace(PLAN, listener=listener, masquerade=masquerade)))
    return next(f.advice for f in found if f.code == "syn-retransmission")


@pytest.mark.parametrize(
    ("load", "listener", "ways"),
    [
        (Load(concurrency=2, churn=Churn(9)), Listener.BACKLOG, "use --concurrency 1 or --close fin"),
        (Load(concurrency=2, give_up_ms=1.0), Listener.ACCEPT, "use --concurrency 1"),
        (
            Load(concurrency=2, churn=Churn(9)),
            Listener.EXTERNAL,
            "use --concurrency 1 or --close fin or a listener of connbench's own (no --target)",
        ),
    ],
)
def test_clients_that_reset_are_named_where_syns_were_sent_again(load: Load, listener: Listener, ways: str) -> None:
    """A port is free before its RST is sent: neither a full queue nor a firewall need be the cause."""
    advice = advice_on_retransmission(load, listener)
    assert advice.endswith(f": {ways}")
    assert "queue" not in advice


BY_RST, BY_FIN = Churn(9), Churn(9, Close.FIN)


@pytest.mark.parametrize("load", [Load(), Load(concurrency=2), Load(churn=BY_RST), Load(concurrency=2, churn=BY_FIN)])
def test_clients_are_not_named_where_none_resets_beside_another(load: Load) -> None:
    """With one client a reset precedes the SYN; by FIN the port stays in TIME_WAIT."""
    assert advice_on_retransmission(load, Listener.BACKLOG) == "find out who drops them: a firewall, the path"
    assert "the target's queue" in advice_on_retransmission(load, Listener.EXTERNAL)


def test_the_nat_of_the_host_is_named_where_there_is_one() -> None:
    """The host's masquerade drops a SYN for which it has no port."""
    assert "the host's NAT" not in advice_on_retransmission(Load(), Listener.EXTERNAL)
    assert "the host's NAT" in advice_on_retransmission(Load(), Listener.EXTERNAL, masquerade=True)


def test_a_shared_port_that_is_taken_too_soon_is_named() -> None:
    """With SO_REUSEADDR a port is had before the other end has closed, which is no fault of the path."""
    spec = replace(RANDOM, reuse=Reuse.ADDRESS, load=Load(churn=BY_FIN), phase=Phase.CHURN)
    [found] = [f for f in findings(result_of({spec: [counting(CLEAN, TCPSynRetrans=1)]})) if "syn" in f.code]
    assert "challenge ACK" in found.advice
    filling = replace(spec, phase=Phase.FILL)
    [found] = [f for f in findings(result_of({filling: [counting(CLEAN, TCPSynRetrans=1)]})) if "syn" in f.code]
    assert found.advice == "find out who drops them: a firewall, the path"


def test_clients_are_not_named_before_the_churn() -> None:
    """While the range is filled no connection is closed yet."""
    advice = advice_on_retransmission(Load(concurrency=2, churn=Churn(9)), Listener.BACKLOG, Phase.FILL)
    assert advice == "find out who drops them: a firewall, the path"


def test_queue_that_overflowed_is_named_where_syns_were_sent_again() -> None:
    """The counters show what dropped them."""
    advice = advice_on_retransmission(Load(concurrency=2, churn=Churn(9)), Listener.BACKLOG, ListenDrops=1)
    assert advice == "the listener's queue dropped them: see the finding above"


@pytest.mark.parametrize(("longest", "codes"), [(900_000_000, []), (900_000_001, ["slow-connect"])])
def test_connect_of_a_second_is_found(longest: int, codes: list[str]) -> None:
    """A connect() over 0.9 s makes a finding, and one of just that time does not."""
    assert [f.code for f in found_in(round_of(samples_of([20_000] * 99 + [longest])))] == codes


def test_handshakes_of_a_second_are_found_in_flight() -> None:
    """There a connect() waits for no answer, so a SYN timer shows in its handshake alone."""
    samples = samples_of([2_000_000_000] + [20_000] * 99, handshake_ns=[60_000_000] * 98 + [1_000_000_000] * 2)
    [found] = findings(result_of({replace(BIND, load=Load(in_flight=100)): [round_of(samples)]}))
    assert (found.code, found.message) == ("slow-connect", "2 handshakes took more than 0.9 s")


def test_slow_connects_are_counted() -> None:
    """The finding has their number."""
    [found] = found_in(round_of(samples_of([20_000] * 97 + [1_000_000_000] * 3)))
    assert found.severity is Severity.WARNING
    assert found.message == "3 connect() took more than 0.9 s"


def test_timed_out_connect_is_found() -> None:
    """A connect() that ran into SO_SNDTIMEO shows by its errno, and the finding names the limit in force."""
    samples = samples_of([20_000] * 98 + [800_000_000] * 2, errno=[0] * 98 + [errno.EINPROGRESS] * 2)
    for limit, named in ((None, "--timeout 0.8 s"), (1000.0, "--timeout 0.8 s"), (50.0, "--give-up-after 50 ms")):
        spec = replace(BIND, load=Load(give_up_ms=limit))
        [found] = findings(result_of({spec: [round_of(samples)]}, replace(PLAN, timeout=0.8)))
        assert (found.code, found.severity) == ("timed-out", Severity.INVALID)
        assert found.message == (
            f"2 connect() had no answer to the SYN within {named} (EINPROGRESS); a slow port search is not the reason"
        )
        assert found.advice.startswith("find out who drops them: a firewall, the path; or")


@pytest.mark.parametrize(
    ("attempts", "switches", "codes"),
    [
        (1000, (10,), []),
        (1000, (11,), ["involuntary-switches"]),
        (1000, (6, 5), ["involuntary-switches"]),
        (1000, (5, 5), []),
        (10, (1,), []),
        (10, (2,), ["involuntary-switches"]),
    ],
)
def test_interrupted_workers_are_found(attempts: int, switches: tuple[int, ...], codes: list[str]) -> None:
    """More than one involuntary switch in a hundred attempts, over all workers, makes a finding; a single one never."""
    measured = with_workers(round_of(samples_of([20_000] * attempts)), switches=switches)
    assert [f.code for f in found_in(measured)] == codes


def test_counted_instructions_are_not_disturbed() -> None:
    """Where the clock counts instructions no finding is about a busy machine; all other findings remain."""
    disturbed = with_workers(CLEAN, switches=(50,), lost=1)
    result = result_of({BIND: [disturbed]}, PLAN)
    result.known = (Finding("cpu-load", Severity.WARNING, "CPU load: 90 % in use", "stop it"),)
    assert [f.code for f in findings(result)] == ["cpu-load", "not-held", "involuntary-switches"]
    result.environment["clock"] = "instructions"
    assert [f.code for f in findings(result)] == ["not-held"]


@pytest.mark.parametrize(
    ("late_us", "every_us", "number", "found"),
    [(0, 0, 1, []), (5000, 0, 1, []), (5001, 0, 1, ["5.00 ms"]), (2_000_000, 0, 2, []), (300_000, 1000, 2, ["299 ms"])],
)
def test_a_late_start_is_found(late_us: int, every_us: int, number: int, found: list[str]) -> None:
    """More than 5 ms after its time; without an interval only the first turn has one."""
    plan = replace(PLAN, strategies=(BIND,), rounds=2, start_at_us=10**15, start_every_us=every_us)
    report = replace(CLEAN.report, epoch_us=10**15 + late_us - int(CLEAN.samples.started_ns[0]) // 1000)
    late = replace(CLEAN, number=number, report=report)
    messages = [f.message for f in findings(result_of({BIND: [late]}, plan)) if f.code == "late-start"]
    assert [message.split(" after ")[0] for message in messages] == [f"it began {time}" for time in found]


@pytest.mark.parametrize(("share", "codes"), [(0.01, []), (0.0101, ["steal"]), (0.5, ["steal"])])
def test_stolen_cpu_time_is_found(share: float, codes: list[str]) -> None:
    """More than one per cent of the CPU time taken by the hypervisor makes a finding."""
    assert [f.code for f in found_in(replace(CLEAN, report=replace(CLEAN.report, steal=share)))] == codes


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ECONNRESET])
def test_attempts_that_fail_for_other_reasons_make_the_figures_invalid(number: int) -> None:
    """The refusals of a target say nothing of the port search."""
    [found] = found_in(round_of(samples_of([20_000] * 4, errno=[0, number, number, errno.EADDRNOTAVAIL])))
    assert (found.code, found.severity) == ("failed-otherwise", Severity.INVALID)
    assert found.message.endswith(f": {errno.errorcode[number]} 2")


@pytest.mark.parametrize(
    ("cpus", "place", "advice"),
    [
        ((3, 2), "26 of them in client 1 on CPU 2", "something else ran on a measured CPU"),
        ((3,), "26 of them in client 1 on CPU 3", "clients took turns on a CPU"),
        ((), "26 of them in client 1", "something else ran on a measured CPU"),
    ],
)
def test_switches_are_reported_of_the_client_that_has_most(cpus: tuple[int, ...], place: str, advice: str) -> None:
    """Of several clients the finding names the most interrupted one; where clients share a CPU, that is the reason."""
    interrupted = with_workers(CLEAN, switches=(10, 20, 6))
    workers = tuple(replace(h, client=client) for h, client in zip(interrupted.report.workers, (0, 1, 1), strict=True))
    measured = replace(interrupted, report=replace(interrupted.report, workers=workers))
    spec = replace(BIND, load=Load(concurrency=2))
    [found] = findings(result_of({spec: [measured]}, replace(PLAN, cpus=cpus)))
    assert found.message == f"36 involuntary context switches in 100 attempts, {place}"
    assert found.advice.startswith(advice)


def test_connections_not_held_make_the_figures_invalid() -> None:
    """A connection that closed before the end freed its port, so the search was of another range than planned."""
    [found] = found_in(with_workers(CLEAN, lost=1))
    assert (found.code, found.severity) == ("not-held", Severity.INVALID)
    assert found.message == "only 99 of 100 connections were still open at the end"


def test_lost_connections_of_a_broken_round_are_no_finding_of_their_own() -> None:
    """Where a fault ended the round, the fault is the finding."""
    broken = replace(with_workers(CLEAN, lost=50), fault=RunFault("worker process 7 was killed by SIGKILL"))
    assert [f.code for f in found_in(broken)] == ["partial"]


@pytest.mark.parametrize(("floor_ns", "codes"), [(5000, []), (5001, ["harness-floor"])])
def test_floor_near_the_latency_is_found(floor_ns: int, codes: list[str]) -> None:
    """A floor of more than a quarter of the median latency is a note."""
    found = found_in(with_workers(CLEAN, floor_ns=floor_ns))
    assert [f.code for f in found] == codes
    assert all(f.severity is Severity.NOTE for f in found)
    assert all("is 25% of the median latency" in f.message for f in found)


def test_partial_round_is_found_with_its_reason() -> None:
    """The finding has the measured part, the reason of the end, and the fault's own advice."""
    result = result_of({BIND: [replace(CLEAN, fault=RunFault("socket() failed", "raise RLIMIT_NOFILE"))]})
    result.plan = replace(PLAN, strategies=(BIND,), connections=500)
    [found] = findings(result)
    assert (found.code, found.severity) == ("partial", Severity.WARNING)
    assert found.message == "partial, 100 of 500 attempts: socket() failed"
    assert found.advice == "raise RLIMIT_NOFILE"


def test_partial_round_has_advice_even_where_its_fault_has_none() -> None:
    """No finding is without advice: an interrupted run can be run again."""
    [found] = found_in(replace(CLEAN, fault=Interrupted(2)))
    assert found.advice == "run it again for the rest"


def stopped_between_rounds() -> Result:
    """Of three rounds of two strategies, two of plain: the signal came before the third."""
    result = result_of({PLAIN: [CLEAN, replace(CLEAN, number=2)]})
    result.plan = replace(PLAN, strategies=(WINDOW, PLAIN), connections=100, rounds=3)
    return result


def test_what_was_planned_and_not_measured_is_found() -> None:
    """A run that stopped between two rounds has no fault in them; the finding lists what is missing in plan order."""
    [found] = findings(stopped_between_rounds())
    assert (found.code, found.severity, found.strategy) == ("partial", Severity.WARNING, None)
    assert found.message == "partial, rounds not measured: window 500 (3 of 3); plain (1 of 3)"
    assert found.advice == "run it again for the rest"


def test_of_a_single_round_strategies_alone_are_named() -> None:
    """Where one round was planned, the finding has no number of rounds."""
    result = result_of({PLAIN: [CLEAN]})
    result.plan = replace(PLAN, strategies=(WINDOW, PLAIN), connections=100, rounds=1)
    [found] = findings(result)
    assert found.message == "partial, not measured: window 500"


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_what_was_not_measured_is_reported_in_every_format(form: str) -> None:
    """Report, table and document say that the plan is not complete."""
    assert "partial, rounds not measured: window 500 (3 of 3); plain (1 of 3)" in FORMATS[form](
        stopped_between_rounds()
    )


@pytest.mark.parametrize("rounds", [1, 3])
def test_whole_result_lacks_nothing(rounds: int) -> None:
    """Where every planned round of every planned strategy is there, there is no finding."""
    made = [replace(CLEAN, number=number) for number in range(1, rounds + 1)]
    result = result_of({WINDOW: made, PLAIN: made})
    assert (findings(result), result.is_partial) == ([], False)


def test_round_is_named_where_there_are_several() -> None:
    """A finding names the strategy, and of several rounds which."""
    second = replace(counting(CLEAN, TCPSynRetrans=1), number=2)
    [found] = findings(result_of({PLAIN: [CLEAN, replace(CLEAN, number=2)], BIND: [CLEAN, second]}))
    assert (found.strategy, found.round) == ("bind", 2)
    assert found.text.startswith("bind, round 2: ")


def test_findings_are_in_the_order_things_happened() -> None:
    """First what was known beforehand, then each strategy's in turn."""
    known = Finding("host-namespace", Severity.WARNING, "in the host's namespace", "run as root")
    first, second = counting(CLEAN, ListenDrops=1), counting(CLEAN, TCPSynRetrans=1)
    found = findings(result_of({PLAIN: [first], BIND: [second]}, known=(known,)))
    assert [f.code for f in found] == ["host-namespace", "listener-overflow", "syn-retransmission"]


def test_empty_round_has_no_finding_but_its_fault() -> None:
    """Without attempts there is nothing to judge."""
    assert [f.code for f in found_in(round_of(samples_of([]), fault=RunFault("no socket")))] == ["partial"]


def attempts_alone(origin: Origin, *rounds: Round) -> Result:
    """The part of these rounds that a CSV contains."""
    result = Result(None, {}, origin=origin, name="x.csv")
    for measured in rounds:
        result.add(BIND, Round(measured.number, measured.samples, fault=measured.fault))
    return result


@pytest.mark.parametrize("origin", [Origin.CSV, Origin.TALK_CSV])
def test_attempts_alone_are_found_as_such(origin: Origin) -> None:
    """A CSV contains neither plan nor counters: one finding says so, and no other is about what it lacks."""
    [found] = findings(attempts_alone(origin, CLEAN, replace(CLEAN, number=2)))
    assert (found.code, found.severity, found.strategy) == ("attempts-alone", Severity.NOTE, None)
    assert found.message.startswith(f"x.csv: a {origin} contains only the attempts")
    assert found.advice


def test_attempts_alone_are_judged_by_what_they_tell() -> None:
    """A finding about the attempts themselves needs no plan; others are left out."""
    samples = samples_of([1_000_000_000, 20_000, 20_000], errno=[errno.EINPROGRESS, errno.ECONNREFUSED, 0])
    found = findings(attempts_alone(Origin.CSV, round_of(samples, fault=RunFault("killed"))))
    assert [f.code for f in found] == ["attempts-alone", "partial", "slow-connect", "timed-out", "failed-otherwise"]
    assert found[1].message == "partial, 3 attempts: killed"
    assert found[2].advice == "that is a SYN timer, not the port search; a CSV has no counters that would show it"
    assert "within --timeout (EINPROGRESS)" in found[3].message
    assert found[3].advice == "find out who dropped them: the target's queue, a firewall, the path"


def test_failure_of_unknown_reason_is_not_taken_for_another_reason() -> None:
    """A talk CSV does not contain why an attempt failed, which is no fault of the measurement."""
    samples = samples_of([20_000] * 4, errno=[0, UNKNOWN_ERRNO, UNKNOWN_ERRNO, 0])
    assert [f.code for f in findings(attempts_alone(Origin.TALK_CSV, round_of(samples)))] == ["attempts-alone"]


def crowded(entries: int, last_ns: int = 16_000) -> list[str]:
    """Codes of the findings on 100 connections whose last twentieth takes `last_ns`, in a table of this size."""
    measured = round_of(samples_of([*[10_000] * 95, *[last_ns] * 5]))
    settings = {"net.ipv4.tcp_ehash_entries": str(entries)}
    return [f.code for f in found_in(replace(measured, report=replace(measured.report, settings=settings)))]


def test_crowded_hash_table_is_named() -> None:
    """More sockets than entries, and later connects slower: a note; a negative number means a shared table."""
    assert crowded(199) == crowded(-199) == ["hash-table"]
    assert crowded(200) == []
    assert crowded(199, last_ns=15_000) == []
    assert crowded(199, last_ns=100_000) == ["hash-table"]


def growing_million() -> Round:
    """1,000,000 connections that grow like those of a real run, in a table of 262,144 entries; by two thousands."""
    latencies = np.interp(np.linspace(0, 1, 2000), [0, 0.1, 0.15, 0.5, 1], [5_000, 11_000, 14_000, 23_000, 36_000])
    measured = round_of(samples_of(latencies.astype(int).tolist(), port=[40000] * 2000))
    settings = {"net.ipv4.tcp_ehash_entries": "-262144"}
    return replace(measured, report=replace(measured.report, settings=settings, established=1_000_000))


def test_growth_by_a_crowded_table_is_no_knee() -> None:
    """A million connections become seven times slower all the way: a finding has the table, figures and the remedy."""
    measured = growing_million()
    assert knee_of(measured.samples).connection is None
    own, host = (
        next(f for f in findings(result_of({BIND: [measured]}, replace(PLAN, namespace=n))) if f.code == "hash-table")
        for n in (Namespace.NETWORK, Namespace.HOST)
    )
    assert own.message.startswith("2,000,000 sockets are in an established-hash table of 262,144 entries, 7.6 each: ")
    assert own.message.endswith("median connect() 6.48 µs in the first 5% of the connections, 35.4 µs in the last 5%")
    assert "--ehash-entries 2097152 " in own.advice
    assert "thash_entries=2097152 " in host.advice
