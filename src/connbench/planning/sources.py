"""The source addresses: read from a list, a range, a network or a number, and tried before anything is measured."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from itertools import islice

from connbench.errors import TargetError, UsageError
from connbench.model import Endpoint, StrategySpec

DEFAULT_SOURCE = "127.9.9.1"
MOST_SOURCES = 4096
"""More than anybody has; a column of 16 bits names them."""

BROADCAST = ipaddress.IPv4Address("255.255.255.255")
Address = ipaddress.IPv4Address
_FORMS = "for example 127.9.9.1, 127.9.9.1-127.9.9.3, 127.9.9.0/28, or several of them with commas"


def choose_sources(
    asked: str | None, number: int | None, target: Endpoint | None, strategies: tuple[StrategySpec, ...]
) -> tuple[str, ...]:
    """The addresses that binding strategies bind to.

    Args:
        asked: A list of addresses, ranges and networks.
        number: How many from 127.9.9.1 on.
        target: Where to connect, if that is settled.
        strategies: For messages.

    Raises:
        UsageError: No such addresses, or not of this host.
        TargetError: No route to the target.
    """
    if asked is not None and number is not None:
        raise UsageError(f"--source {asked} and --sources {number} both say where from", "leave one of them out")
    if number is not None:
        if not 1 <= number <= MOST_SOURCES:
            raise UsageError(f"--sources {number} is not a number of addresses", f"give 1 to {MOST_SOURCES}")
        return first_sources(number)
    if asked is not None:
        return _bindable(parse_sources(asked), strategies)
    if target is None or ipaddress.IPv4Address(target.host).is_loopback:
        return (DEFAULT_SOURCE,)
    return (_routed_source(target),)


def first_sources(number: int) -> tuple[str, ...]:
    """So many addresses from the talk's own on."""
    first = int(ipaddress.IPv4Address(DEFAULT_SOURCE))
    return tuple(str(ipaddress.IPv4Address(first + i)) for i in range(number))


def parse_sources(text: str) -> tuple[str, ...]:
    """Read addresses, ranges (`LOW-HIGH`) and networks (`ADDRESS/BITS`, without its first and last address), by commas.

    Raises:
        UsageError: Not of that form, IPv6, an address twice, or too many of them.
    """
    found = tuple(islice((str(a) for part in text.split(",") for a in _part(part.strip(), text)), MOST_SOURCES + 1))
    if len(found) > MOST_SOURCES:
        raise UsageError(f"--source {text}: more than {MOST_SOURCES} addresses", "name fewer")
    twice = next((address for address in found if found.count(address) > 1), None)
    if twice:
        raise UsageError(f"--source {text}: {twice} is there twice", "name each address once")
    return found


def _part(part: str, whole: str) -> Iterator[Address]:
    try:
        if "/" in part:
            yield from ipaddress.IPv4Network(part, strict=False).hosts()
        elif "-" in part:
            low, _, high = part.partition("-")
            first, last = ipaddress.IPv4Address(low.strip()), ipaddress.IPv4Address(high.strip())
            if first > last:
                raise UsageError(f"--source {whole}: range {part} is reversed", f"write it as {last}-{first}")
            yield from (ipaddress.IPv4Address(number) for number in range(int(first), int(last) + 1))
        else:
            yield ipaddress.IPv4Address(part)
    except ValueError as error:
        if part.count(":") > 1:
            raise UsageError(
                f"--source {whole} is IPv6", "connbench connects over IPv4: give IPv4 addresses"
            ) from error
        raise UsageError(f"--source {whole!r} is not an IPv4 address: {error}", _FORMS) from error


def _bindable(addresses: tuple[str, ...], strategies: tuple[StrategySpec, ...]) -> tuple[str, ...]:
    for address in addresses:
        if ipaddress.IPv4Address(address).is_multicast or ipaddress.IPv4Address(address) == BROADCAST:
            raise UsageError(f"--source {address} belongs to no single host", _FORMS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe_socket:
            try:
                probe_socket.bind((address, 0))
            except OSError as error:
                names = ", ".join(spec.name for spec in strategies)
                raise UsageError(
                    f"--source {address} is not an address of this host, {names} cannot bind to it",
                    "any of 127.0.0.0/8 is; `ip -4 address` lists the others",
                ) from error
    return addresses


def _routed_source(target: Endpoint) -> str:
    """The address the kernel would choose towards the target; connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
        try:
            probe_socket.connect((target.host, target.port))
        except OSError as error:
            raise TargetError(f"no route to {target}: {error.strerror}", "check the address") from error
        return str(probe_socket.getsockname()[0])
