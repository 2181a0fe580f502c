"""The source addresses: read from a list, a range, a network or a number, and tried before anything is measured."""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from connbench.errors import TargetError, UsageError
from connbench.linux.address_family import family_of
from connbench.model import (
    DEFAULT_SOURCES,
    MOST_SOURCES,
    Endpoint,
    Link,
    Namespace,
    first_sources,
    ip_version,
    is_of_one,
    refuse_mapped,
)

LONGEST_SHOWN = 80
"""Characters of a list that a message repeats."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FORMS = "for example 127.9.9.1, 127.9.9.1-127.9.9.3, 127.9.9.0/28, 2001:db8::1, or several of them with commas"


def choose_sources(
    asked: str | None,
    number: int | None,
    target: Endpoint,
    namespace: Namespace,
    link: Link = Link.LOOPBACK,
    *,
    external: bool = False,
) -> tuple[str, ...]:
    """The addresses that binding strategies bind to.

    Args:
        asked: A list of addresses, ranges and networks.
        number: How many from the default one on.
        target: Where to connect; the addresses are of its family.
        namespace: Where: a namespace of its own is given the addresses of IPv6.
        link: Over what: the end of a veth pair is given whatever addresses there are.
        external: Whether somebody else listens there. Such a listener may care who comes (redis turns away whoever is
            not 127.0.0.1), so it is connected to from where the kernel would, as `plain` does.

    Raises:
        UsageError: No such addresses, of another family, or not of this host.
        TargetError: No route to the target.
    """
    family = ip_version(target.host)
    check_sources(asked, number)
    if number is not None:
        return first_sources(number, family, link)
    if asked is not None:
        found = parse_sources(asked)
        other = next((address for address in found if ip_version(address) != family), None)
        if other:
            raise UsageError(
                f"--source {other} and target {target} are not both IPv{family}",
                f"give a --source of IPv{family} alone",
            )
        are_given = link is Link.VETH or (family == 6 and namespace.is_own)
        return found if are_given else _bindable(found, target)
    if link is Link.VETH:
        return first_sources(1, family, link)
    if external or (not target.is_loopback and not (namespace.is_own and family == 6)):
        return (_routed_source(target),)
    return (DEFAULT_SOURCES[family] if family == 4 or namespace.is_own else "::1",)


def check_sources(asked: str | None, number: int | None) -> None:
    """Make sure that --source and --sources do not contradict each other, and that the number is one of addresses.

    Raises:
        UsageError: Both are given, or the number is out of bounds.
    """
    if asked is not None and number is not None:
        raise UsageError(f"--source {asked} and --sources {number} both say where from", "leave one of them out")
    if number is not None and not 1 <= number <= MOST_SOURCES:
        raise UsageError(f"--sources {number} is not a number of addresses", f"give 1 to {MOST_SOURCES}")


def parse_sources(text: str) -> tuple[str, ...]:
    """Read addresses, ranges (`LOW-HIGH`) and networks (`ADDRESS/BITS`, without its first and last address), by commas.

    Raises:
        UsageError: Not of that form, an address twice, or too many of them.
    """
    found = tuple(islice((str(a) for part in text.split(",") for a in _part(part.strip(), text)), MOST_SOURCES + 1))
    if len(found) > MOST_SOURCES:
        raise UsageError(f"--source {_short(text)}: more than {MOST_SOURCES} addresses", "name fewer")
    twice = next((address for address, number in Counter(found).items() if number > 1), None)
    if twice:
        raise UsageError(f"--source {_short(text)}: {twice} is there twice", "name each address once")
    if len({":" in address for address in found}) > 1:
        raise UsageError(f"--source {_short(text)} has IPv4 and IPv6 addresses", "give addresses of one family")
    nobodys = next((address for address in found if not is_of_one(address)), None)
    if nobodys:
        raise UsageError(f"--source {nobodys} is no address of a single host", _FORMS)
    for address in found:
        refuse_mapped("--source", address)
    return found


def _short(text: str) -> str:
    """The beginning of a list that is too long for a message of two lines."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _part(part: str, whole: str) -> Iterator[Address]:
    try:
        if "/" in part:
            yield from ipaddress.ip_network(part, strict=False).hosts()
        elif "-" in part:
            low, _, high = part.partition("-")
            first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
            if first.version != last.version:
                fault = f"--source {_short(whole)}: range {part} has IPv4 and IPv6 ends"
                raise UsageError(fault, "give ends of one family")
            if int(first) > int(last):
                raise UsageError(f"--source {_short(whole)}: range {part} is reversed", f"write it as {last}-{first}")
            yield from (first + i for i in range(int(last) - int(first) + 1))
        else:
            yield ipaddress.ip_address(part)
    except ValueError as error:
        host, _, port = part.rpartition(":")
        if port.isdecimal() and is_address(host.strip("[]")):
            fault, hint = f"--source {_short(whole)!r} has a port", f"give the address alone, as in {host.strip('[]')}"
            raise UsageError(fault, f"{hint}; --port-range says from which ports") from error
        raise UsageError(f"--source {_short(whole)!r} is not an IP address: {_short(str(error))}", _FORMS) from error


def is_address(text: str) -> bool:
    """Whether it is an IP address in digits."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _bindable(addresses: tuple[str, ...], target: Endpoint) -> tuple[str, ...]:
    for address in addresses:
        with socket.socket(family_of(address), socket.SOCK_STREAM) as probe_socket:
            try:
                probe_socket.bind((address, 0))
            except OSError as error:
                raise UsageError(
                    f"--source {address} is not an address of this host",
                    "any of 127.0.0.0/8 is; `ip address` lists the others"
                    if target.is_loopback and ":" not in target.host
                    else "`ip address` lists those that are",
                ) from error
    return addresses


def _routed_source(target: Endpoint) -> str:
    """The address the kernel would choose towards the target; connecting a UDP socket sends nothing."""
    with socket.socket(family_of(target.host), socket.SOCK_DGRAM) as probe_socket:
        try:
            probe_socket.connect((target.host, target.port))
        except OSError as error:
            raise TargetError(f"no route to {target}: {error.strerror}", "check the address") from error
        return str(probe_socket.getsockname()[0])
