"""The kernel's counters, from text as the kernel writes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.errors import EnvironmentFault
from connbench.linux import counters
from connbench.linux.counters import WATCHED, difference, parse

SNMP = """\
Ip: Forwarding DefaultTTL InReceives
Ip: 1 64 12
Tcp: RtoAlgorithm RtoMin MaxConn ActiveOpens CurrEstab
Tcp: 1 200 -1 56512 3
Udp: InDatagrams NoPorts
Udp: 7 0
"""
NETSTAT = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPSynRetrans
TcpExt: 0 4 5 18446744073709551615
"""


def test_counters_are_named_by_protocol() -> None:
    """Names and values come in pairs of lines, and a counter is named by its protocol and its name."""
    assert parse(SNMP) == {
        "Ip.Forwarding": 1,
        "Ip.DefaultTTL": 64,
        "Ip.InReceives": 12,
        "Tcp.RtoAlgorithm": 1,
        "Tcp.RtoMin": 200,
        "Tcp.MaxConn": -1,
        "Tcp.ActiveOpens": 56512,
        "Tcp.CurrEstab": 3,
        "Udp.InDatagrams": 7,
        "Udp.NoPorts": 0,
    }


def test_counters_of_the_extensions_are_read_too() -> None:
    """A counter may be as large as the kernel's 64 bits."""
    assert parse(NETSTAT)["TcpExt.TCPSynRetrans"] == 2**64 - 1


def test_no_text_has_no_counters() -> None:
    """An empty file is no fault."""
    assert parse("") == {}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"snmp": SNMP}, "/proc/net/netstat: No such file or directory"),
        ({"snmp": "", "netstat": NETSTAT}, "/proc/net/snmp: no Tcp.ActiveOpens"),
        ({"snmp": SNMP, "netstat": ""}, "/proc/net/netstat: no TcpExt.ListenOverflows"),
        ({"snmp": "Tcp: ActiveOpens\nTcp: many\n", "netstat": NETSTAT}, "/proc/net/snmp: invalid literal"),
    ],
)
def test_counters_that_are_hidden_are_an_error(
    files: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without counters a run cannot be judged; a container's mask reads as an empty file."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    monkeypatch.setattr(counters, "Path", lambda path: tmp_path / Path(path).name)
    with pytest.raises(EnvironmentFault, match=re.escape(said)):
        counters.read()


def test_difference_is_how_far_the_watched_counters_moved() -> None:
    """Only watched counters are reported: one that did not move as 0, one that this kernel lacks not at all."""
    before = {"Tcp.ActiveOpens": 10, "Tcp.CurrEstab": 1, "TcpExt.ListenDrops": 5}
    after = {"Tcp.ActiveOpens": 22, "Tcp.CurrEstab": 9, "TcpExt.ListenDrops": 5}
    assert difference(before, after) == {"Tcp.ActiveOpens": 12, "TcpExt.ListenDrops": 0}


def test_counter_that_was_not_there_before_began_at_zero() -> None:
    """A counter that appears during the round moved from 0."""
    assert difference({}, {"TcpExt.TCPSynRetrans": 3}) == {"TcpExt.TCPSynRetrans": 3}


@given(st.dictionaries(st.sampled_from(WATCHED), st.tuples(st.integers(0, 2**40), st.integers(0, 2**40))))
def test_difference_leads_from_before_to_after(counters: dict[str, tuple[int, int]]) -> None:
    """A counter's first value plus its difference is its last value."""
    before = {name: values[0] for name, values in counters.items()}
    after = {name: values[1] for name, values in counters.items()}
    assert {name: before[name] + moved for name, moved in difference(before, after).items()} == after
