"""`--ehash-entries`: a round whose namespace has an established-hash table of its own, as large as the user says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connbench.engine import network
from connbench.errors import EnvironmentFault, ExitCode
from connbench.linux import sysctl
from connbench.linux.process import in_child
from connbench.model import Plan, RoundPlan
from run_connbench import OVER_VETH, connbench, make_plan, measure, spec

needs_own_table = pytest.mark.skipif(
    not Path("/proc/sys/net/ipv4/tcp_child_ehash_entries").exists(), reason="this kernel has no such sysctl (Linux 6.1)"
)
ENTRIES = 1024


def plan_of(**changes: Any) -> Plan:  # noqa: ANN401  # any field of Plan
    """Sixteen connections, with a table of its own."""
    return replace(make_plan(spec("bind"), 16, 16), ehash_entries=ENTRIES, **changes)


def tables_of(plan: Plan) -> list[str]:
    """The entries of the tables at both ends of a round: what the engine records, and what the listener has."""
    made = network.set_up(RoundPlan(plan, plan.strategies[0], 1))
    with made.listening_end():
        return [made.settings[sysctl.EHASH_ENTRIES], sysctl.read(sysctl.EHASH_ENTRIES)]


@needs_own_table
@pytest.mark.parametrize("link", [{}, OVER_VETH], ids=["loopback", "veth"])
def test_both_ends_have_a_table_of_their_own(link: dict[str, Any]) -> None:
    """A number without a sign: the table is not the host's."""
    plan = plan_of(**link)
    assert in_child(lambda: tables_of(plan), "", "") == [str(ENTRIES)] * 2


@needs_own_table
def test_connections_open_in_it() -> None:
    """More of them than it has entries; the host's own setting stays."""
    before = sysctl.read_all((sysctl.CHILD_EHASH_ENTRIES, sysctl.EHASH_ENTRIES))
    result = measure(spec("bind"), 300, 300, ehash_entries=128)
    [measured] = result.rounds
    assert (measured.report.established, measured.report.settings[sysctl.EHASH_ENTRIES]) == (300, "128")
    assert sysctl.read_all((sysctl.CHILD_EHASH_ENTRIES, sysctl.EHASH_ENTRIES)) == before


@needs_own_table
def test_the_kernel_rounds_up() -> None:
    """The plan has what the kernel makes of the number, and the header names it."""
    command = ("run", "--strategy", "bind", "--port-range", "40000-40999", "-n", "1000", "--ehash-entries", "1000")
    run = connbench(*command, "--format", "json")
    told = json.loads(run.stdout)
    assert told["plan"]["ehash_entries"] == ENTRIES
    assert told["strategies"][0]["rounds"][0]["settings"][sysctl.EHASH_ENTRIES] == str(ENTRIES)


def test_a_kernel_without_the_sysctl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.1 no namespace has a table of its own."""
    monkeypatch.setattr(sysctl, "CHILD_EHASH_ENTRIES", "net.ipv4.not_in_this_kernel")
    with pytest.raises(EnvironmentFault, match=r"--ehash-entries 1024: this kernel has no net\.ipv4\.not_in"):
        in_child(lambda: tables_of(plan_of()), "", "")


@needs_own_table
def test_a_table_that_the_kernel_did_not_make_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for it the kernel gives the namespace the host's table, and says so in its log alone."""
    monkeypatch.setattr(network, "enter_child_namespace", lambda _entries, _patience: None)
    with pytest.raises(EnvironmentFault, match=r"made no table of that size, net\.ipv4\.tcp_ehash_entries is -\d+"):
        in_child(lambda: tables_of(plan_of()), "", "")


@needs_own_table
@pytest.mark.skipif(os.geteuid() != 0, reason="the stand-in for a host that allows one namespace needs root")
def test_the_namespace_between_counts() -> None:
    """A table of its own takes a second namespace, whose limit is named."""
    command = ("run", "--strategy", "bind", "-n", "4", "--ehash-entries", "1k")
    run = connbench(*command, inside=("--most", "net_namespaces=1"))
    assert run.returncode == ExitCode.ENVIRONMENT
    assert "--ehash-entries 1024: no namespace with such a table: the limit user.max_net_namespaces is " in run.stderr
