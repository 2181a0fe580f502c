"""Early bind, and listeners in the range, of real sockets: what inspect suspects, and what it does not."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connbench.kernel_release import version_of

HOST = Path(__file__).parent.parent / "binding_host.py"


def suspected(kind: str, connections: int, targets: int) -> dict[str, Any]:
    """What is found in a namespace where a program has connected to targets, and the program's process."""
    command = [sys.executable, str(HOST), kind, str(connections), str(targets)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["plain", "bind"])
def test_port_that_connect_chose_is_not_suspicious(kind: str) -> None:
    """Some hundred connections to each target: only the listener and the bound socket in the range are named."""
    found = {code: (message, advice) for code, _, message, advice in suspected(kind, 150, 3)["found"]}
    lists_bound = (version_of(platform.release()) or (0, 0)) >= (6, 8)
    assert list(found) == ["listener-in-range", *["bound-in-range"] * lists_bound]
    message, advice = found["listener-in-range"]
    assert "127.9.9.9:40100 (python" in message
    assert advice.endswith("sysctl -w net.ipv4.ip_local_reserved_ports=40100")
    if lists_bound:
        assert "127.9.9.9:40200 (python" in found["bound-in-range"][0]


def test_early_bind_is_found_and_its_process_named() -> None:
    """The same without IP_BIND_ADDRESS_NO_PORT: 450 ports that no two targets share, and that are odd."""
    host = suspected("early", 150, 3)
    code, severity, message, advice = host["found"][0]
    assert (code, severity) == ("early-bind", "warning")
    assert "3 paths of 127.9.9.1 share none of their 450 ports, where chance gives about 3" in message
    assert "100% of them are odd" in message
    assert f"-p {host['pid']} 2>&1" in advice


def test_early_bind_to_one_target_shows_by_its_parity() -> None:
    """There is nothing to share with, so it is a note only."""
    code, severity, message, _ = suspected("early", 150, 1)["found"][0]
    assert (code, severity) == ("early-bind", "note")
    assert message.startswith("150 of the 150 ports of 127.9.9.1 -> 127.9.9.2:39999 are odd, although 1,9")
