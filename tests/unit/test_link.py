"""What --link veth and --delay exclude, and the addresses they imply: the parts that need no network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connbench.errors import UsageError
from connbench.model import Endpoint, Isolation, Link, Load, Namespace, PortRange, first_sources
from connbench.planner.endpoints import choose_sources, listener_endpoint
from connbench.planner.namespaces import check_link, choose_link, choose_link_namespace
from connbench.planner.request import RunRequest
from connbench.report.run_report import link_name
from factories import BIND, PLAN

VETH, OWN = RunRequest(link=Link.VETH), Namespace.NETWORK
FAR = Endpoint("198.19.0.1", 80)


def test_a_loopback_needs_nothing_of_a_link() -> None:
    """Without --link there is no link to choose, and every address is possible."""
    assert choose_link_namespace(RunRequest(), external=True) is None
    check_link(replace(PLAN, sources=("127.9.9.1",), targets=(Endpoint("127.9.9.1", 80),)))


def test_no_attempt_is_given_up_within_the_delay() -> None:
    """Each attempt would be given up before its answer."""
    impatient = replace(BIND, load=Load(give_up_ms=2.0))
    with pytest.raises(UsageError, match="--delay 2ms is not shorter than --give-up-after 2ms"):
        check_link(replace(PLAN, link=Link.VETH, delay_ms=2.0, strategies=(BIND, impatient)))


@pytest.mark.parametrize(
    ("changes", "external", "fault"),
    [
        ({"link": Link.LOOPBACK, "delay_ms": 2.0}, False, "--delay 2ms does nothing on the loopback"),
        ({"delay_ms": 500.0, "timeout": 0.5}, False, "--delay 500ms is not shorter than --timeout 0.5s"),
        ({"targets": ("192.0.2.1:80",)}, True, "--link veth cannot reach --target 192.0.2.1:80 outside"),
        ({"isolate": Isolation.NEVER}, False, "--link veth makes namespaces of its own, and --isolate never"),
    ],
)
def test_what_a_link_cannot_go_with_is_refused(changes: dict[str, Any], external: bool, fault: str) -> None:
    """Wrong usage names the option and its value, with a remedy."""
    with pytest.raises(UsageError) as caught:
        choose_link_namespace(replace(VETH, **changes), external=external)
    assert caught.value.message.startswith(fault)
    assert caught.value.hint


ALLOWED, THERE, HERE = RunRequest(allow_host_route=True), Endpoint("192.0.2.9", 80), Endpoint("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("request_", "target", "external", "fault"),
    [
        (RunRequest(link=Link.ROUTED), THERE, True, "--link routed changes the host's network namespace"),
        (ALLOWED, THERE, False, "--allow-host-route does nothing without a --target"),
        (ALLOWED, HERE, True, "--target 127.0.0.1:80: another network namespace cannot reach"),
        (replace(ALLOWED, isolate=Isolation.NEVER), THERE, True, "--allow-host-route leads out of a namespace"),
        (replace(ALLOWED, link=Link.VETH), THERE, True, "--allow-host-route does nothing with --link veth"),
    ],
)
def test_what_a_route_cannot_go_with_is_refused(
    request_: RunRequest, target: Endpoint, external: bool, fault: str
) -> None:
    """Nothing is changed on the host without permission, nor where a route would not help."""
    with pytest.raises(UsageError) as caught:
        choose_link(request_, (target,), external=external)
    assert caught.value.message.startswith(fault)
    assert caught.value.hint


@pytest.mark.parametrize("link", [Link.LOOPBACK, Link.ROUTED])
def test_the_permission_alone_asks_for_a_route(link: Link) -> None:
    """--allow-host-route and a target that listens already: the link need not be named."""
    assert choose_link(replace(ALLOWED, link=link), (THERE,), external=True) is Link.ROUTED
    assert choose_link(RunRequest(), (THERE,), external=True) is Link.LOOPBACK
    with pytest.raises(UsageError, match="--delay 2ms does nothing on a route through the host"):
        choose_link_namespace(RunRequest(link=Link.ROUTED, delay_ms=2.0), external=True)


@pytest.mark.parametrize(
    ("sources", "host", "fault"),
    [
        (("127.0.0.1",), FAR.host, "--source 127.0.0.1 "),
        (("198.18.0.1", "127.9.9.1"), FAR.host, "--source 127.9.9.1 "),
        (("224.0.0.1",), FAR.host, "--source 224.0.0.1 "),
        (("0.0.0.0",), FAR.host, "--source 0.0.0.0 "),  # noqa: S104  # nothing binds to it
        (("198.18.0.1",), "127.0.0.1", "--target 127.0.0.1 "),
        (("198.18.0.1",), "255.255.255.255", "--target 255.255.255.255 "),
        (("2001:db8::1",), "::1", "--target ::1 "),
        (("fe80::1",), "2001:db8:1::1", "--source fe80::1 "),
        (("::ffff:198.18.0.1",), "2001:db8:1::1", "--source ::ffff:198.18.0.1 "),
        (("198.18.0.1", "198.18.0.2"), "198.18.0.2", "--link veth: 198.18.0.2 would be at both"),
        (("2001:db8::2",), "2001:db8:0::2", "--link veth: 2001:db8::2 would be at both"),
    ],
)
def test_an_address_no_end_can_have_is_refused(sources: tuple[str, ...], host: str, fault: str) -> None:
    """A loopback address, an address of no single host or link, and one at both ends are wrong usage."""
    with pytest.raises(UsageError) as caught:
        check_link(replace(PLAN, link=Link.VETH, sources=sources, targets=(Endpoint(host, 80),)))
    assert caught.value.message.startswith(fault)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("family", "near", "far"), [(4, "198.18.0.1", "198.19.0.1"), (6, "2001:db8::1", "2001:db8:1::1")]
)
def test_each_end_has_addresses_of_its_own(family: int, near: str, far: str) -> None:
    """Without --source and --target they come from the ranges for benchmarks and documents."""
    target = listener_endpoint(PortRange(40000, 40009), OWN, family, Link.VETH)
    assert target == Endpoint(far, 39999)
    assert choose_sources(None, None, target, OWN, Link.VETH) == (near,)
    assert choose_sources(None, 3, target, OWN, Link.VETH) == first_sources(3, family, Link.VETH)
    assert first_sources(3, family, Link.VETH)[0] == near


def test_a_source_need_not_be_one_of_this_host() -> None:
    """The near end gets the source that was asked for."""
    assert choose_sources("192.0.2.0/30", None, FAR, OWN, Link.VETH) == ("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        ({"link": Link.VETH}, "veth link"),
        ({"link": Link.VETH, "delay_ms": 2.0}, "veth link, 2 ms delay"),
        ({"link": Link.VETH, "delay_ms": 0.25}, "veth link, 0.25 ms delay"),
        ({"link": Link.ROUTED}, "route through the host"),
        ({"link": Link.ROUTED, "masquerade": True}, "route through the host with masquerade"),
    ],
)
def test_a_link_is_named_where_it_is_not_the_usual_one(changes: dict[str, Any], text: str) -> None:
    """The header does not name the loopback; a delay has its unit."""
    assert link_name(replace(PLAN, **changes)) == text
