"""Which namespace a run takes with which rights: the planner chooses, the engine sets it up, doctor says which."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from connbench.errors import ExitCode
from connbench.model import Namespace
from run_connbench import HANG_S, INSIDE, connbench

PROGRAM = """
import json, os
from connbench import samples
from connbench.engine.launcher import run_round
from connbench.errors import EnvironmentFault
from connbench.model import Isolation, RoundPlan
from connbench.planner.planner import make_plan
from connbench.planner.request import RunRequest

plan, known = make_plan(RunRequest(("bind",), connections=4))
always = ""
try:
    make_plan(RunRequest(("bind",), connections=4, isolate=Isolation.ALWAYS))
except EnvironmentFault as fault:
    always = fault.message
memory = samples.create(4)
outcome = run_round(RoundPlan(plan, plan.strategies[0], 1), memory, lambda: None)
ports = samples.views(samples.attach(memory, 4), 4)["port"]
print(json.dumps({
    "namespace": plan.namespace,
    "warned": [finding.message for finding in known if finding.code == "host-namespace"],
    "always": always,
    "opened": sum(map(bool, ports)),
}))
"""
"""Plans and measures four connections, and prints where; the engine sets up its round as in any run."""

NETWORK, USER, HOST = Namespace.NETWORK, Namespace.USER, Namespace.HOST
NO_USER = ("--most", "user_namespaces=0")
LIMIT = "the limit user.max_net_namespaces is reached"


@pytest.mark.parametrize(
    ("inside", "expected", "reason"),
    [
        ((*NO_USER, "--drop", "net_raw", "--drop", "bpf"), NETWORK, ""),
        (("--drop", "net_admin"), USER, ""),
        (("--drop", "sys_admin"), USER, ""),
        (
            (*NO_USER, "--drop", "net_admin"),
            HOST,
            "loopback interface of the new namespace cannot be set up: Operation",
        ),
        ((*NO_USER, "--drop", "sys_admin"), HOST, "network namespace: Operation not permitted"),
        (("--most", "net_namespaces=0"), HOST, LIMIT),
        (("--deny", "unshare"), HOST, "user namespace: Operation not permitted"),
    ],
    ids=lambda value: " ".join(value).replace("--", "") if isinstance(value, tuple) else "",
)
def test_the_namespace_that_rights_allow(inside: tuple[str, ...], expected: Namespace, reason: str) -> None:
    """The engine can set up what the planner chooses; the host's namespace brings a warning that names the reason."""
    command = [*INSIDE, *inside, "--", sys.executable, "-c", PROGRAM]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert (told["namespace"], told["opened"]) == (expected, 4)
    if expected.is_own:
        assert (told["warned"], told["always"]) == ([], "")
        return
    [warning] = told["warned"]
    assert reason in warning
    assert told["always"] == f"cannot create a network namespace: {warning.partition('(')[2].rstrip(')')}"


def test_run_and_doctor_agree_without_net_admin() -> None:
    """With CAP_SYS_ADMIN alone a new namespace cannot be set up: both measure the host's, and say why."""
    inside = (*NO_USER, "--drop", "net_admin")
    told = json.loads(connbench("doctor", "--format", "json", inside=inside).stdout)
    run = connbench("run", "-n", "4", "--strategy", "bind", "--format", "json", inside=inside)
    assert told["exit_code"] == run.returncode == ExitCode.OK, run.stderr
    measured = json.loads(run.stdout)
    assert told["plan"]["namespace"] == measured["plan"]["namespace"] == HOST
    [checked] = [check for check in told["checks"] if check["code"] == "host-namespace"]
    [found] = [finding for finding in measured["findings"] if finding["code"] == "host-namespace"]
    assert (checked["verdict"], checked["message"]) == ("warning", found["message"])


ONE_AFTER_THE_OTHER = """
from connbench.linux.process import in_child
from connbench.linux.namespace import LIMIT_WAIT_S, enter_new_namespace
from connbench.model import Namespace

for _ in range(10):
    in_child(lambda: enter_new_namespace(Namespace.NETWORK, LIMIT_WAIT_S), "not entered", "")
"""


def test_a_round_waits_until_the_namespace_before_is_removed() -> None:
    """The kernel counts a namespace until it has removed it in the background, and this test allows one."""
    command = [*INSIDE, "--most", "net_namespaces=1", "--", sys.executable, "-c", ONE_AFTER_THE_OTHER]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert finished.returncode == 0, finished.stderr
