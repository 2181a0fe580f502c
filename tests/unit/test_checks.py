"""The checks before a run: how each judges a machine, and that `doctor` and a run judge alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.errors import EnvironmentFault, ExitCode
from connbench.findings import Finding, Severity
from connbench.host import checks
from connbench.host.checks import Check, Status, finding_from_check
from connbench.linux import limits, sysctl
from connbench.linux.sockopts import LOCAL_PORT_RANGE
from connbench.model import Listener, Loop, Namespace, Plan, format_ports, parse_ports
from connbench.planner import namespaces as place
from connbench.planner.planner import make_plan
from connbench.planner.request import RunRequest
from connbench.planner.workload import check_supported
from factories import PLAN, WINDOW, unhurried

HOST = replace(PLAN, namespace=Namespace.HOST, listener=Listener.ACCEPT, connections=5000)


def busy(monkeypatch: pytest.MonkeyPatch) -> Check:
    """CPUs that are in use."""
    seconds = count()
    monkeypatch.setattr(checks, "read_busy_ticks", lambda: (97 * (now := next(seconds)), 100 * now))
    return checks.cpu_load_check(0.1)


def one_cpu(monkeypatch: pytest.MonkeyPatch) -> Check:
    """One CPU for all."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    return checks.cpus_check()


def slow_governor(monkeypatch: pytest.MonkeyPatch) -> Check:
    """A CPU that changes its frequency."""
    monkeypatch.setattr(checks, "governor", lambda _: "powersave")
    return checks.governor_check(PLAN.cpus)


def few_files(monkeypatch: pytest.MonkeyPatch) -> Check:
    """A limit of open files so low that the run takes many processes."""
    monkeypatch.setattr(limits, "open_files", lambda: (40, 40))
    return checks.open_files_check(56512)


def short_queue(monkeypatch: pytest.MonkeyPatch) -> Check:
    """A host whose listeners queue fewer connections."""
    monkeypatch.setattr(sysctl, "read", lambda _: "4096")
    found = checks.accept_queue_check(HOST)
    assert found
    return found


FAILING: dict[Callable[[pytest.MonkeyPatch], Check], tuple[str, Severity]] = {
    busy: ("cpu-load", Severity.WARNING),
    one_cpu: ("cpus", Severity.WARNING),
    slow_governor: ("governor", Severity.WARNING),
    few_files: ("open-files", Severity.NOTE),
    short_queue: ("somaxconn", Severity.NOTE),
}


@pytest.mark.parametrize("fail", FAILING, ids=lambda one: one.__name__)
def test_doctor_and_run_judge_alike(
    fail: Callable[[pytest.MonkeyPatch], Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that failed has in `doctor` the severity of the run's finding, and changes the exit code in neither."""
    check = fail(monkeypatch)
    code, severity = FAILING[fail]
    assert (check.code, check.verdict) == (code, Status(severity))
    assert finding_from_check(check) == Finding(code, severity, check.text, check.advice)
    assert check.advice
    assert checks.exit_code([check]) == ExitCode.OK


def test_a_run_reports_what_doctor_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both use the same checks: a run has a finding for each check of the machine that did not pass."""
    for fail in FAILING:
        fail(monkeypatch)
    told = [(check.code, str(check.verdict)) for check in checks.checks_of_plan(HOST, seconds=0.1)]
    found = [(finding.code, str(finding.severity)) for finding in checks.findings_at_start(HOST)]
    assert found == [(code, verdict) for code, verdict in told if verdict != "ok"]
    assert {code for code, _ in found} == {code for code, _ in FAILING.values()}


def test_the_namespace_is_judged_by_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a namespace of its own a run goes on with a warning, and doctor says so."""
    monkeypatch.setattr(place, "best_namespace", lambda: (Namespace.HOST, "network namespace: Operation not permitted"))
    plan, [known] = make_plan(RunRequest(("random",), connections=4))
    told = checks.check_from_finding(known)
    assert (told.code, told.verdict, told.text) == ("host-namespace", Status.WARNING, known.text)
    assert checks.exit_code([told]) == ExitCode.OK
    assert "network namespace: Operation not permitted" in known.text
    assert checks.namespace_check(plan) is None
    own = checks.namespace_check(PLAN)
    assert own
    assert own.verdict is Status.OK


def test_what_a_run_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket option that the kernel lacks ends a run with exit code 4; doctor's is the same, without a finding."""
    for module in (checks.__name__, "connbench.planner.workload"):
        monkeypatch.setattr(f"{module}.is_supported", lambda _: False)
    with pytest.raises(EnvironmentFault) as caught:
        check_supported((WINDOW,))
    option = checks.option_check(LOCAL_PORT_RANGE)
    assert option.verdict is Status.REFUSED
    assert finding_from_check(option) is None
    assert checks.exit_code([option]) == caught.value.exit_code
    refused = checks.check_from_refusal(caught.value)
    assert checks.exit_code([refused]) == ExitCode.ENVIRONMENT
    assert checks.verdict(None, [refused])[0] == (
        f"A full run here would be refused (exit code 4): {caught.value.message}."
    )


def test_passed_check_is_no_finding() -> None:
    """Only a check that did not pass is reported."""
    assert finding_from_check(Check("cpus", "CPUs", Status.OK, "4 usable")) is None


@pytest.mark.parametrize(
    ("plan", "somaxconn", "verdict"),
    [
        (replace(HOST, namespace=Namespace.NETWORK), "128", Status.OK),
        (HOST, "5000", Status.OK),
        (HOST, "4999", Status.NOTE),
    ],
)
def test_somaxconn_matters_on_the_host_only(
    plan: Plan, somaxconn: str, verdict: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's somaxconn has to have room for all connections; a namespace of its own gets what it needs."""
    monkeypatch.setattr(sysctl, "read", lambda _: somaxconn)
    found = checks.accept_queue_check(plan)
    assert found
    assert found.verdict is verdict


def test_no_queue_of_ones_own_is_not_judged() -> None:
    """A target that listens already has a queue of unknown length."""
    assert checks.accept_queue_check(replace(HOST, listener=Listener.EXTERNAL)) is None


def test_the_verdict_has_figures_reasons_and_the_next_step() -> None:
    """Sound: what would be measured and the command; with a warning: which, and what to do first."""
    quiet = Check("cpus", "CPUs", Status.OK, "2 usable")
    sound, command = checks.verdict(PLAN, [quiet])
    what = "4 connections for each strategy, range 9024-65535, own network namespace"
    assert sound == f"A full run here would be sound: {what}, CPUs: 2 usable."
    assert command == "Next: connbench run"
    loud = Check("cpu-load", "CPU load", Status.WARNING, "97 % in use", "stop the other programs, then measure")
    warned, advice = checks.verdict(PLAN, [quiet, loud])
    assert warned == (
        f"A full run here would end in exit code 0 with a warning in its report ({what}): CPU load: 97 % in use."
    )
    assert advice == "Next: stop the other programs, then measure."


@given(st.frozensets(st.integers(0, 65535)))
@unhurried
def test_reserved_ports_are_written_as_they_are_read(ports: frozenset[int]) -> None:
    """The list that doctor proposes reads back as its ports, in as few ranges as possible."""
    text = format_ports(ports)
    assert parse_ports(text) == ports
    assert len(text.split(",")) == max(1, sum(port - 1 not in ports for port in ports))


def test_the_loop_is_told_with_what_a_better_one_needs() -> None:
    """The loop in C is as it should be; the one in Python is a note with the reason and the remedy."""
    assert checks.loop_check(Loop.C, "", "").text == "loop: C"
    python = checks.loop_check(Loop.PYTHON, "it has no compiler", "build it")
    assert (python.verdict, python.advice) == (Status.NOTE, "build it")
    assert python.text == "loop: Python, because it has no compiler"
