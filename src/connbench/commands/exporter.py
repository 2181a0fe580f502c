"""`--exporter ADDR:PORT`: a command's metrics, which Prometheus reads over HTTP while the command goes on."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Thread
from typing import TYPE_CHECKING, Any

from connbench.commands.messages import print_error
from connbench.errors import TargetError, UsageError
from connbench.linux.faults import fault_of
from connbench.model import MAX_PORT, Endpoint, is_of_many
from connbench.report.libraries import require
from connbench.units import parse_number

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

MOST_CLIENTS = 64
"""Clients that are answered at the same time; each has a thread and a file."""

POLL_SECONDS = 0.1
"""How long the end of the server may take to be noticed."""

CLIENT_SECONDS = 10.0
"""How long a client may say nothing, or take nothing of its answer."""


def exporter_address(text: str) -> Endpoint:
    """Read the value of --exporter.

    Raises:
        UsageError: It is not an address and a port.
        EnvironmentFault: The library that serves the metrics is not installed.
    """
    require("prometheus_client", "--exporter")
    host, _, port = text.rpartition(":")
    with suppress(ValueError):
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        if parse_number(port) <= MAX_PORT and not is_of_many(address):
            return Endpoint(address, int(port))
    raise UsageError(
        f"--exporter {text!r} is not an address and a port", "for example 127.0.0.1:9435; port 0 takes a free one"
    )


class _Server(ThreadingTCPServer):
    """Answers each client in a thread, which never keeps the process from ending."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = MOST_CLIENTS

    def __init__(self, endpoint: Endpoint, handler: Any) -> None:  # noqa: ANN401  # a class that prometheus_client makes
        self.address_family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        self._places = BoundedSemaphore(MOST_CLIENTS)
        super().__init__((endpoint.host, endpoint.port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # socketserver's types
        """Answer a client in a thread; close its connection if there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no further thread
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as above
        """Answer a client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002  # as above
        """Say what is wrong with connbench; a client that has gone is nothing to tell."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            print_error(fault_of(error))


@contextmanager
def exporting(endpoint: Endpoint, collector: Collector) -> Iterator[Endpoint]:
    """Serve metrics over HTTP until the end of the `with` block.

    Threads of its own answer. They call `collector` for each answer.

    Returns:
        The address; with the port that the kernel chose, if `endpoint` has port 0.

    Raises:
        TargetError: It cannot listen there.
    """
    from prometheus_client import CollectorRegistry, MetricsHandler

    registry = CollectorRegistry()
    registry.register(collector)
    handler = type("Handler", (MetricsHandler.factory(registry),), {"timeout": CLIENT_SECONDS})
    try:
        server = _Server(endpoint, handler)
    except OSError as error:
        raise TargetError(
            f"--exporter {endpoint} cannot listen: {error.strerror}", "name an address of this machine and a free port"
        ) from error
    with server:
        thread = Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="exporter")
        thread.start()
        try:
            yield Endpoint(endpoint.host, server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
