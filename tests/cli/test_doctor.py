"""`connbench doctor` and `connbench strategies` as their users type them, and that a run agrees with the doctor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from connbench.errors import ExitCode
from connbench.strategies import STRATEGIES
from run_connbench import connbench

Machine = tuple[str, ...]

STEADY = {"host-namespace", "open-files", "somaxconn", "cpus", "governor"}
"""Codes of checks whose outcome does not change from one second to the next, as CPU usage does."""

SMALL_HOST = ("--sysctl", "net.ipv4.ip_local_port_range=40000 40063", "--sysctl", "net.core.somaxconn=16")


def doctor(inside: Machine, **keywords: Callable[[], None]) -> dict[str, Any]:
    """The doctor's report on a machine; its exit code is the one it prints."""
    finished = connbench("doctor", "--format", "json", inside=inside, **keywords)
    found: dict[str, Any] = json.loads(finished.stdout)
    assert finished.returncode == found["exit_code"], finished.stderr
    return found


def use_one_cpu() -> None:
    """Leave this process one CPU of those it has."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (SMALL_HOST, set()),
        ((*SMALL_HOST, "--deny", "unshare"), {("host-namespace", "warning"), ("somaxconn", "note")}),
    ],
    ids=["own namespace", "host's namespace"],
)
def test_a_run_says_what_the_doctor_said(inside: Machine, said: set[tuple[str, str]]) -> None:
    """On one machine both name the same conditions with the same severity; a warning fails neither."""
    told = doctor(inside, preexec_fn=use_one_cpu)
    assert told["exit_code"] == ExitCode.OK
    by_doctor = {(one["code"], one["verdict"]) for one in told["checks"] if one["verdict"] != "ok"}
    small = () if "--deny" in inside else ("--port-range", "40000-40063")
    run = connbench("run", "-n", "17", *small, "--format", "json", inside=inside, preexec_fn=use_one_cpu)
    # What the run's own counters say of it nobody knows beforehand: on the host a queue of 16 may overflow.
    assert run.returncode in {ExitCode.OK, *([ExitCode.UNSOUND] if said else [])}, run.stderr
    by_run = {(one["code"], one["severity"]) for one in json.loads(run.stdout)["findings"]}
    expected = {*said, ("cpus", "warning")}
    assert {one for one in by_doctor if one[0] in STEADY - {"governor"}} == expected
    assert {one for one in by_doctor if one[0] in STEADY} == {one for one in by_run if one[0] in STEADY}
    assert "in its report" in told["verdict"][0]


@pytest.mark.parametrize("inside", [("--nofile", "40"), ("--deny", "port-range")], ids=["few files", "old kernel"])
def test_a_run_is_refused_where_the_doctor_said_so(inside: Machine) -> None:
    """Where a run ends in exit code 4, so does the doctor, with the run's own message."""
    told = doctor(inside)
    run = connbench("run", inside=inside)
    assert told["exit_code"] == run.returncode == ExitCode.ENVIRONMENT
    [refusal] = [one for one in told["checks"] if one["code"] == "refused"]
    fault, advice = run.stderr.splitlines()
    assert fault.split(", and ")[0] == f"connbench: {refusal['message']}".split(", and ")[0]  # processes come and go
    assert advice == f"  -> {refusal['advice']}"
    assert told["verdict"][0] == f"A full run here would be refused (exit code 4): {refusal['message']}."
    assert told["plan"] is None


def test_the_doctor_in_words() -> None:
    """Facts, then a line a check, and at the end what a full run would measure."""
    finished = connbench("doctor")
    assert finished.returncode == ExitCode.OK, finished.stderr
    facts, listed, verdict = finished.stdout.rstrip("\n").split("\n\n")
    assert facts.startswith("time: ")
    assert "CPU load: " in listed
    assert verdict.startswith("verdict: A full run here would ")


def test_strategies_for_programs() -> None:
    """Names, what each needs and whether this kernel has it."""
    document = json.loads(connbench("strategies", "--format", "json").stdout)
    assert document["kernel"] == os.uname().release
    assert [one["name"] for one in document["strategies"]] == list(STRATEGIES)
    window = next(one for one in document["strategies"] if one["name"] == "window")
    assert window["takes"] == ["placement", "residue", "retries", "stride", "window"]
    assert [option["name"] for option in window["needs"]] == ["IP_BIND_ADDRESS_NO_PORT", "IP_LOCAL_PORT_RANGE"]
    assert window["is_supported"] == all(option["is_supported"] for option in window["needs"])


def test_strategies_that_a_kernel_lacks() -> None:
    """Without IP_LOCAL_PORT_RANGE both formats mark the strategies that set it as missing, and no other."""
    denied = ("--deny", "port-range")
    document = json.loads(connbench("strategies", "--format", "json", inside=denied).stdout)
    supported = [one["name"] for one in document["strategies"] if one["is_supported"]]
    assert supported == ["plain", "bind", "early", "random", "sequential"]
    assert connbench("strategies", inside=denied).stdout.count("needs IP_LOCAL_PORT_RANGE: Linux 6.3") == 3
