"""The listener's port, of which a round before may have left connections."""

from __future__ import annotations

import socket

from allowed_namespace import NAMESPACE
from connbench.engine import listener
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import enter_new_namespace
from connbench.linux.process import in_child
from connbench.model import Endpoint, Listener


def test_a_round_listens_on_the_port_on_which_the_round_before_left_a_connection_in_time_wait() -> None:
    """In the host's namespace rounds share the port, and the kernel may still be closing the connections of one."""

    def work() -> None:
        enter_new_namespace(NAMESPACE)
        bring_up_loopback()
        address = Endpoint("127.0.0.1", 39999)
        for _ in range(2):
            running = listener.start(Listener.BACKLOG, (address,), 1, 1, memoryview(b"\0" * 4).cast("i"))
            with socket.create_connection((address.host, address.port)) as client:
                accepted, _ = running.socks[0].accept()
                accepted.close()  # this end closes first: its address stays in TIME_WAIT
                client.recv(1)
            running.close()

    in_child(work, "the second listener did not start", "")
