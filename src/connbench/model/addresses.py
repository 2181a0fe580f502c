"""Port ranges and endpoints."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Self

from connbench.errors import UsageError
from connbench.model.choices import Link
from connbench.safe_text import printable
from connbench.units import parse_number

RESERVED_PORTS = "net.ipv4.ip_local_reserved_ports"
"""The sysctl of the ports that the kernel's search skips."""

STEP_WIDTH = "net.ipv4.ip_local_port_step_width"
"""The largest distance between two probes of connect()'s search; 0, the default, for one port after the other. Kernels
until 7.0 do not have it."""

MAX_PORT = 65535
MAX_JSON_INTEGER = 2**53 - 1
"""The largest whole number that every reader of JSON keeps to the last digit (RFC 8259, section 6)."""

MOST_CLIENT_NAMESPACES = 64
"""Client namespaces behind one router."""

MOST_SOURCES = 4096
"""Source addresses of a run. A column of 16 bits holds their indices."""

DEFAULT_RANGE_LOW = 9024
"""The talk's range, 9024-65535: 56,512 ports, the first of them even."""

DEFAULT_SOURCES = {4: "127.9.9.1", 6: "2001:db8::1"}
"""The source of the talk, and one in the prefix for documentation (RFC 3849), which the namespace gets."""

NEAR_SOURCES = {4: "198.18.0.1", 6: "2001:db8::1"}
"""The sources at this end of a veth pair: in 198.18.0.0/15, for benchmarks (RFC 2544), and as above."""

ROUTER_ADDRESSES = {4: "198.19.255.254", 6: "2001:db8:2::1"}
"""The address of the router of `--link nat`, behind which it hides the sources."""


@dataclass(frozen=True, slots=True)
class PortRange:
    """The ports from low to high, both included.

    Raises:
        UsageError: The range is reversed or outside 1-65535.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if not (1 <= self.low <= MAX_PORT and 1 <= self.high <= MAX_PORT):
            raise UsageError(f"port range {self} is outside 1-{MAX_PORT}", f"ports are 1 to {MAX_PORT}")
        if self.low > self.high:
            raise UsageError(f"port range {self} is reversed", f"write it as {self.high}-{self.low}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `LOW-HIGH`, as in `9024-65535`.

        Raises:
            UsageError: The text is not two whole numbers, or the range is reversed or outside 1-65535.
        """
        low, _, high = text.strip().partition("-")
        try:
            ends = parse_number(low.strip()), parse_number(high.strip())
        except ValueError as error:
            fault = f"port range {text!r} is not LOW-HIGH"
            raise UsageError(fault, "for example 9024-65535, or host for this host's") from error
        return cls(*ends)

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"

    def __len__(self) -> int:
        return self.high - self.low + 1

    def __contains__(self, port: int) -> bool:
        return self.low <= port <= self.high

    def count_of(self, ports: Iterable[int]) -> int:
        """How many of `ports` lie in the range."""
        return sum(port in self for port in ports)

    def check_for_search(self) -> None:
        """Make sure that a search has a choice.

        Raises:
            UsageError: The range is a single port.
        """
        if len(self) < 2:
            raise UsageError(f"port range {self} is one port", "a search needs two or more")

    def covers(self, other: PortRange) -> bool:
        """Whether every port of `other` lies in the range."""
        return self.low <= other.low and other.high <= self.high


def ip_version(address: str) -> int:
    """6 for an address with a colon, else 4."""
    return 6 if ":" in address else 4


def first_sources(number: int, family: int = 4, link: Link = Link.LOOPBACK) -> tuple[str, ...]:
    """The default source address of a family and a link, and the addresses that follow it, `number` in all."""
    first = ipaddress.ip_address((DEFAULT_SOURCES if link is Link.LOOPBACK else NEAR_SOURCES)[family])
    return tuple(str(first + i) for i in range(number))


def is_of_many(host: str) -> bool:
    """Whether an IP address is multicast or broadcast, so that TCP cannot connect to it."""
    address = _mapped(host)
    return address.is_multicast or str(address) == "255.255.255.255"


def is_of_one(host: str) -> bool:
    """Whether an IP address can belong to a single host: not multicast, broadcast, 0.0.0.0 or ::."""
    return not (is_of_many(host) or _mapped(host).is_unspecified)


def check_one_family(hosts: Iterable[str]) -> None:
    """Check that addresses belong to single hosts and are all IPv4 or all IPv6.

    Raises:
        ValueError: One does not, or differs; the message names the address.
    """
    versions = set()
    for host in hosts:
        if not is_of_one(host):
            raise ValueError(f"{host} is not the address of a single host")
        versions.add(ipaddress.ip_address(host).version)
        if len(versions) > 1:
            raise ValueError(f"{host} is of another family than the addresses before it")


def check_not_mapped(option: str, host: str) -> None:
    """Check that an IP address is not an IPv4 address in the form of IPv6 (RFC 4291, section 2.5.5.2).

    An IPv6 socket connects to such a target only from such a source, and over IPv4.

    Raises:
        UsageError: It is one.
    """
    address = _mapped(host)
    if address.version != ipaddress.ip_address(host).version:
        raise UsageError(f"{option} ::ffff:{address} is an IPv4 address in the form of IPv6", f"write it as {address}")


def _mapped(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; the IPv4 address if it is written in the form of IPv6."""
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def parse_ports(text: str) -> frozenset[int]:
    """Read `8080,9148,30000-32767`, the form of net.ipv4.ip_local_reserved_ports; nothing for no port.

    Raises:
        UsageError: The text is not of that form, a range in it is reversed, or a port is outside 0-65535.
    """
    found = bytearray(MAX_PORT + 1)  # a set takes a minute where a file names the whole range 60,000 times
    for part in filter(None, (word.strip() for word in text.split(","))):
        ends = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part, re.ASCII)
        low, high = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not low <= high <= MAX_PORT:
            raise UsageError(
                f"reserved ports {text!r}: {part!r} is neither a port nor LOW-HIGH", "for example 8080,9148,30000-32767"
            )
        found[low : high + 1] = b"\1" * (high - low + 1)
    return frozenset(chain.from_iterable(range(*named.span()) for named in re.finditer(b"\1+", found)))


def port_range_value(low: int, high: int) -> int:
    """The u32 that IP_LOCAL_PORT_RANGE takes, before packing."""
    return low | high << 16


def format_ports(ports: Iterable[int]) -> str:
    """Write ports, ascending, in the form that `parse_ports` reads: `8080,9148,30000-32767`."""
    stretches: list[list[int]] = []
    for port in sorted(set(ports)):
        if stretches and port == stretches[-1][1] + 1:
            stretches[-1][1] = port
        else:
            stretches.append([port, port])
    return ",".join(f"{low}-{high}" if low < high else f"{low}" for low, high in stretches)


@dataclass(frozen=True, slots=True)
class ResolvedName:
    """A host name that the user gave for a target, the address that connbench took, and how many addresses it has."""

    name: str
    address: str
    addresses: int = 1

    def __str__(self) -> str:
        more = "" if self.addresses == 1 else f" (one of {self.addresses} addresses)"
        return f"{printable(self.name)} -> {self.address}{more}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IPv4 or IPv6 address and a TCP port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the host is a loopback address; False if it is not an address, as a file may have it."""
        try:
            return _mapped(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
