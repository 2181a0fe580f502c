"""Interfaces and addresses over netlink, in a child that ends with its work.

pyroute2 takes 34 MB and 0.2 s to load; in a child of its own the engine and the holders forked from it stay small.
"""

from __future__ import annotations

import os

from connbench.errors import EnvironmentFault


def bring_up_loopback(addresses: tuple[str, ...] = ()) -> None:
    """Set this namespace's `lo` up, and give it each of `addresses` as a /32 or /128.

    Raises:
        EnvironmentFault: Netlink refused.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _in_child(writer, addresses)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        complaint = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise EnvironmentFault(
            f"the loopback interface cannot be set up in the new namespace: {complaint or status}",
            "try --isolate never",
        )


def _in_child(writer: int, addresses: tuple[str, ...]) -> None:
    status = 1
    try:
        from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

        with IPRoute() as route:
            index = route.link_lookup(ifname="lo")[0]
            route.link("set", index=index, state="up")
            for address in addresses:
                route.addr("add", index=index, address=address, prefixlen=128 if ":" in address else 32)
        status = 0
    except Exception as error:  # noqa: BLE001  # the child has no other way to tell; the parent raises it
        os.write(writer, str(error).encode())
    finally:
        os._exit(status)
