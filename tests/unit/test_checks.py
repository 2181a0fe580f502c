"""What the checks before a run become once they are part of its result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.findings import Finding, Severity
from connbench.host.checks import Check, Verdict, as_finding, check_namespace, check_somaxconn
from connbench.model import Namespace, format_ports, parse_ports
from made import unhurried


def test_passed_check_is_no_finding() -> None:
    """Only what did not pass is worth telling."""
    assert as_finding(Check("CPUs", Verdict.OK, "4 usable")) is None


@pytest.mark.parametrize("verdict", [Verdict.WARN, Verdict.FAIL])
def test_check_that_did_not_pass_is_a_warning(verdict: Verdict) -> None:
    """A run goes on in spite of a check, and its result warns of it, under a code made of the check's name."""
    check = Check("CPU load", verdict, "97 % in use", "stop what else runs here")
    assert as_finding(check) == Finding(
        "cpu-load", Severity.WARNING, "CPU load: 97 % in use", "stop what else runs here"
    )


def test_namespace_of_its_own_passes() -> None:
    """A network namespace of its own is all that a sound run needs, and the reason for having none is told."""
    assert check_namespace(Namespace.USER, "").verdict is Verdict.OK
    refused = check_namespace(Namespace.HOST, "unshare(CLONE_NEWNET): Operation not permitted")
    assert refused.verdict is Verdict.FAIL
    assert refused.message.endswith("unshare(CLONE_NEWNET): Operation not permitted")
    assert refused.advice


@pytest.mark.parametrize(
    ("namespace", "somaxconn", "verdict"),
    [
        (Namespace.NETWORK, 128, Verdict.OK),
        (Namespace.HOST, 5000, Verdict.OK),
        (Namespace.HOST, 4999, Verdict.WARN),
    ],
)
def test_somaxconn_matters_on_the_host_only(namespace: Namespace, somaxconn: int, verdict: Verdict) -> None:
    """The host's somaxconn has to have room for all connections; a namespace of its own gets what it needs."""
    assert check_somaxconn(namespace, 5000, somaxconn).verdict is verdict


@given(st.frozensets(st.integers(0, 65535)))
@unhurried
def test_reserved_ports_are_written_as_they_are_read(ports: frozenset[int]) -> None:
    """The list that doctor proposes reads back as the ports it is made of, in as few stretches as there are."""
    text = format_ports(ports)
    assert parse_ports(text) == ports
    assert len(text.split(",")) == max(1, sum(port - 1 not in ports for port in ports))
