"""Dumps of `ss`, `netstat` and /proc/net are read as they were printed, and a line that cannot be read is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dump_texts
from connbench.errors import InputError
from connbench.inspect.dump_file import read_dump
from connbench.inspect.sockets import STATE_NAMES, UNKNOWN, Sockets, State, address_text
from dump_texts import HEADERS, Line

TCP, UDP = 6, 17
MAPPED, MAPPED_IN_PROC = 0xFFFF, f"{'0' * 16}FFFF0000"

SS = """\
State      Recv-Q Send-Q      Local Address:Port        Peer Address:Port Process
LISTEN     0      128               0.0.0.0:8080             0.0.0.0:*
ESTAB      0      0               10.0.0.1:38854            10.9.9.9:443
"""
NETSTAT = """\
Proto Recv-Q Send-Q Local Address           Foreign Address         State
tcp        0      0 10.0.0.1:38854          10.9.9.9:443            ESTABLISHED
"""
PROC = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100000A:97C6 0909090A:01BB 01 00000000:00000000 00:00000000 00000000     0        0 316 1 0000 20 0 0 10 -1
"""
GOOD_PROC = PROC.splitlines(keepends=True)[1]


def read(text: str | bytes) -> Sockets:
    """The sockets of a dump."""
    return read_dump(text.encode() if isinstance(text, str) else text, "dump")


def rows(sockets: Sockets) -> list[tuple[object, ...]]:
    """The values of each socket."""
    columns = [getattr(sockets, column.name).tolist() for column in fields(sockets)]
    return list(zip(*columns, strict=True))


def ends(sockets: Sockets) -> list[str]:
    """Both endpoints of each socket."""
    return [
        f"{address_text(family, local)} {local_port} {address_text(family, remote)} {remote_port}"
        for family, local, local_port, remote, remote_port in zip(
            sockets.family, sockets.local, sockets.local_port, sockets.remote, sockets.remote_port, strict=True
        )
    ]


def addresses(family: int) -> st.SearchStrategy[tuple[int, int]]:
    """Addresses as two words; an IPv4-mapped one is of IPv4, and so it is none of IPv6."""
    whole = st.integers(0, 2**32 - 1) if family == 4 else st.integers(0, 2**128 - 1) | st.just(0) | st.just(1)
    return whole.filter(lambda one: family == 4 or one >> 32 != MAPPED).map(lambda one: (one >> 64, one & 2**64 - 1))


@st.composite
def sockets(draw: st.DrawFn, states: Sequence[State], protocols: Sequence[int] = (TCP, UDP)) -> Sockets:
    """Sockets as the kernel has them."""
    number = draw(st.integers(1, 8))
    made: list[dict[str, Any]] = []
    for _ in range(number):
        family, protocol = draw(st.sampled_from((4, 6))), draw(st.sampled_from(protocols))
        state = draw(st.sampled_from(states if protocol == TCP else (State.ESTABLISHED, State.CLOSE)))
        has_timer = state == State.TIME_WAIT
        made.append(
            {
                "protocol": protocol,
                "family": family,
                "state": state,
                "expires_ms": draw(st.integers(0, 599_999).map(lambda ms: ms // 10 * 10)) if has_timer else UNKNOWN,
                "interface": draw(st.integers(0, 3)),
                "local": draw(addresses(family)),
                "remote": draw(addresses(family)),
                "local_port": draw(st.integers(0, 65_535)),
                "remote_port": draw(st.integers(0, 65_535)),
                "inode": 0 if has_timer else draw(st.integers(0, 2**32 - 1)),
            }
        )
    return Sockets.of(**{name: [one[name] for one in made] for name in made[0]})


@st.composite
def pasted(draw: st.DrawFn, lines: Sequence[Line], kind: str, *, may_wrap: bool = False) -> bytes:
    """Lines as people paste them: indented, wrapped, with CRLF, a prompt, a header or not, and blank lines."""
    gap = draw(st.sampled_from((" ", "    ", "\t", *(("\n", "  \n      ") if may_wrap else ()))))
    at = draw(st.integers(1, 4))  # where a narrow terminal wraps
    indent, end = draw(st.sampled_from(("", "    "))), draw(st.sampled_from(("\n", "\r\n", "   \n")))
    whole = [indent + " ".join(line[:at]) + gap + " ".join(line[at:]) for line in lines]
    if draw(st.booleans()):
        whole.insert(0, HEADERS[kind])
    if draw(st.booleans()):
        command = "cat /proc/net/tcp" if kind == "proc" else f"{kind.split(maxsplit=1)[0]} -tuanope"
        whole.insert(0, f"root@web1:~# {command}")
        whole.append("root@web1:~# ")
    if draw(st.booleans()):
        whole.insert(draw(st.integers(0, len(whole))), "")
    return (end.join(whole) + draw(st.sampled_from(("", end)))).encode()


OF_SS = [state for state in State if state != State.NEW_SYN_RECV]
"""inet_diag reports NEW_SYN_RECV as SYN_RECV."""
OF_NETSTAT = [*dump_texts.NETSTAT_STATES]
LISTED = [state for state in OF_NETSTAT if state != State.CLOSE]
"""The kernel lists no TCP socket in CLOSE."""


@given(st.data())
def test_ss_reads_back(data: st.DataObject) -> None:
    """With and without the columns Netid and Process."""
    netid, details, mapped = (data.draw(st.booleans()) for _ in range(3))
    made = data.draw(sockets(OF_SS)) if netid else data.draw(sockets([*LISTED, State.BOUND_INACTIVE], (TCP,)))
    lines = dump_texts.lines(
        made, lambda at: dump_texts.ss_line(made, at, netid=netid, state=True, details=details, mapped=mapped)
    )
    expected = dump_texts.with_times(dump_texts.renumbered(made), dump_texts.ss_kept)
    expected = expected if details else dump_texts.without(expected, "expires_ms", "inode")
    assert rows(read(data.draw(pasted(lines, "ss", may_wrap=True)))) == rows(expected)


@given(st.data(), st.integers(20, 120))
def test_lines_that_a_terminal_broke_are_joined(data: st.DataObject, width: int) -> None:
    """A copy from a narrow terminal has a line end after each `width` columns, also inside a word."""
    made = data.draw(sockets([*LISTED, State.BOUND_INACTIVE], (TCP,)))
    lines = dump_texts.lines(
        made, lambda at: dump_texts.ss_line(made, at, netid=False, state=True, details=True, mapped=False)
    )
    whole = [HEADERS["ss"], *(" ".join(f"{word:<24}" for word in line).rstrip() for line in lines)]
    whole = [line.replace("a b", "a") for line in whole]  # a blank in a program's name is lost where the line ends
    text = "\n".join(line[at : at + width].rstrip() for line in whole for at in range(0, len(line), width))
    expected = dump_texts.with_times(dump_texts.renumbered(made), dump_texts.ss_kept)
    assert rows(read(text)) == rows(expected)


@given(st.data(), st.sampled_from(LISTED))
def test_ss_of_one_state_reads_back(data: st.DataObject, state: State) -> None:
    """`ss state ...` has no column of states: the command before it tells the state."""
    made = data.draw(sockets([state], (TCP,)))
    lines = dump_texts.lines(
        made, lambda at: dump_texts.ss_line(made, at, netid=False, state=False, details=True, mapped=False)
    )
    name = {State.LISTEN: "listening", State.ESTABLISHED: "established"}.get(state)
    command = f"$ ss -tanoep state {name or STATE_NAMES[state].lower()}\n"
    text = command.encode() + data.draw(pasted(lines, "ss state"))
    assert rows(read(text)) == rows(dump_texts.with_times(dump_texts.renumbered(made), dump_texts.ss_kept))


@given(st.data())
def test_netstat_reads_back(data: st.DataObject) -> None:
    """With and without inode, program and timer."""
    details, made = data.draw(st.booleans()), data.draw(sockets(OF_NETSTAT))
    long = Sockets.of(**{column.name: getattr(made, column.name)[:1] for column in fields(made)})
    long.family[:], long.local[:] = 6, 0x2001_0DB8_1111_2222  # it shows that netstat did not cut addresses
    long.remote[:] = long.local
    made = Sockets.concatenate([made, long])
    lines = dump_texts.lines(made, lambda at: dump_texts.netstat_line(made, at, details=details))
    lacking = ("interface",) if details else ("interface", "expires_ms", "inode")
    assert rows(read(data.draw(pasted(lines, "netstat")))) == rows(dump_texts.without(made, *lacking))


@given(st.data())
def test_proc_reads_back(data: st.DataObject) -> None:
    """The files of TCP and UDP, one after the other."""
    made = data.draw(sockets([state for state in State if state != State.NEW_SYN_RECV]))
    lines = dump_texts.lines(made, lambda at: dump_texts.proc_line(made, at))
    assert rows(read(data.draw(pasted(lines, "proc")))) == rows(dump_texts.without(made, "interface"))


def test_many_pieces_read_as_one() -> None:
    """A text of several megabytes is read in pieces, and no socket is lost where one ends."""
    number = 60_000
    wrapped = (
        f"TIME-WAIT 0 0 10.0.0.{n % 7}:{n % 50_000 + 1}\n   10.9.9.9:443 timer:(timewait,{n % 60}sec,0)"
        for n in range(number)
    )
    found = read("\n".join(wrapped))
    assert found.local_port.tolist() == [n % 50_000 + 1 for n in range(number)]
    assert found.expires_ms.tolist() == [n % 60 * 1000 for n in range(number)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ESTAB 0 0 [fe80::5]%eth0:34240 [fe80::5]:9999", "fe80::5 34240 fe80::5 9999"),
        ("ESTAB 0 0 [fe80::5%eth0]:34240 [fe80::5%eth0]:9999", "fe80::5 34240 fe80::5 9999"),
        ("ESTAB 0 0 ::ffff:10.0.0.1:5000 ::ffff:10.9.9.9:443", "10.0.0.1 5000 10.9.9.9 443"),
        ("LISTEN 0 128 *:22 *:*", ":: 22 :: 0"),
        ("LISTEN 0 128 :::22 :::*", ":: 22 :: 0"),
        ("LISTEN 0 128 0.0.0.0%eth0:22 0.0.0.0:*", "0.0.0.0 22 0.0.0.0 0"),
        ("tcp6 0 0 10.0.0.1:5000 10.9.9.9:443 ESTABLISHED", "10.0.0.1 5000 10.9.9.9 443"),
        ("tcp6 0 0 :::8443 :::* LISTEN", ":: 8443 :: 0"),
        (
            GOOD_PROC.replace("0100000A", f"{'0' * 16}FFFF00000100007F").replace(
                "0909090A", f"{'0' * 16}FFFF00000909097F"
            ),
            "127.0.0.1 38854 127.9.9.9 443",
        ),
    ],
)
def test_forms_of_an_address(text: str, expected: str) -> None:
    """Brackets, devices, `*` and IPv4-mapped addresses."""
    assert ends(read(text)) == [expected]


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("33sec", 33_000),
        ("1min", 60_000),
        ("1min5sec", 65_000),
        ("99999min", 2**31 - 1),
        ("1.234sec", 1234),
        ("1.234ms", 1234),
        ("034ms", 34),
        ("", 0),
    ],
)
def test_times_of_ss(written: str, milliseconds: int) -> None:
    """Each way of `print_ms_timer`; old versions of ss write `ms` behind a fraction of a second."""
    text = f"TIME-WAIT 0 0 10.0.0.1:5000 10.9.9.9:443 timer:(timewait,{written},0)"
    assert read(text).expires_ms.tolist() == [milliseconds]


def test_sockets_of_other_kinds_are_passed_over() -> None:
    """`ss -an` and `netstat -an` list Unix sockets and others, too."""
    of_ss = SS + "nl UNCONN 0 0 0:4 *\nu_str ESTAB 0 0 /run/x 1 * 2\nraw UNCONN 0 0 0.0.0.0:1 0.0.0.0:*\n"
    unix = "Active UNIX domain sockets (servers and established)\nProto RefCnt Flags Type State I-Node Path\n"
    of_netstat = NETSTAT + unix + "unix  2      [ ACC ]     STREAM     LISTENING     19022    /run/x\n"
    assert (len(read(of_ss)), len(read(of_netstat))) == (2, 1)


def test_lines_of_details_are_no_sockets() -> None:
    """`ss -tmi` adds indented lines, of which no word is a socket."""
    detail = "\t skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0)\n\t cubic wscale:7,7 rto:201 bytes_acked:1\n"
    assert len(read(SS + detail + SS.splitlines(keepends=True)[2] + detail)) == 3


SESSION = f"""\
Script started on 2026-11-29
\x1b[01;32mroot@web1\x1b[00m:~# date
```
+ sudo netstat -tanp
(Not all processes could be identified, non-owned process info
 will not be shown, you would have to be root to see it all.)
Active Internet connections (servers and established)
{NETSTAT}```
$ exit
"""


def test_what_stands_around_a_dump_is_passed_over() -> None:
    """A session in a terminal, colours, a page's blanks, and what netstat says about programs."""
    assert ends(read(SESSION.replace("      0 ", "      0\u00a0"))) == ["10.0.0.1 38854 10.9.9.9 443"]


def test_header_alone_is_a_dump_without_sockets() -> None:
    """A namespace without a socket prints that."""
    assert [len(read(header)) for header in HEADERS.values()] == [0] * len(HEADERS)


def test_sockets_without_netid_are_of_udp_if_one_is_in_close() -> None:
    """`ss -uan` has no column Netid, and the kernel lists no TCP socket in CLOSE."""
    found = read("UNCONN 0 0 0.0.0.0:53 0.0.0.0:*\nESTAB 0 0 10.0.0.1:5000 10.0.0.2:53\n")
    assert found.protocol.tolist() == [UDP, UDP]


def test_timers_tell_the_state() -> None:
    """A dump of TIME_WAIT alone has no column State; the timers of all its sockets tell it."""
    found = read(f"{HEADERS['ss state']}\n0 0 10.0.0.1:5 10.0.0.2:6 timer:(timewait,9.500sec,0)")
    assert found.state.tolist() == [State.TIME_WAIT]


GOOD = "ESTAB 0 0 10.0.0.1:5000 10.9.9.9:443\n"
LONG = "2001:db8::12:3456:54321"

MALFORMED: dict[str, tuple[str | bytes, int | None, str]] = {
    "nothing": ("", None, "it is empty"),
    "prose": ("Dear colleague,\nhere it is\n", None, "it begins with 'Dear colleague,'"),
    "a summary": ("Total: 31\nTCP:   35 (estab 21, closed 10)\n", None, "begins with 'Total: 31'"),
    "JSON": ('{"a": 1}\n', None, "no dump of sockets"),
    "UTF-16": (SS.encode("utf-16"), None, "is UTF-16 text"),
    "NUL": (SS.encode() + b"\0\n", 4, "a NUL byte"),
    "name of a port": (GOOD + "ESTAB 0 0 10.0.0.1:5000 10.9.9.9:https\n", 2, "the port 'https' is a name"),
    "name of a host": (GOOD + "ESTAB 0 0 localhost:5000 10.9.9.9:443\n", 2, "'localhost' is a name"),
    "name with dots": (NETSTAT + "tcp 0 0 10.0.0.1:5 ec2-1-2.example:443 ESTABLISHED\n", 3, "is a name"),
    "large port": (GOOD + "ESTAB 0 0 10.0.0.1:65536 10.9.9.9:443\n", 2, "'65536' is no port"),
    "port of many digits": (GOOD + f"ESTAB 0 0 10.0.0.1:{'9' * 5000} 10.9.9.9:443\n", 2, "is no port"),
    "IPv4 out of range": (GOOD + "ESTAB 0 0 10.0.0.256:5000 10.9.9.9:443\n", 2, "'10.0.0.256' is no address"),
    "IPv6 of nine groups": (GOOD + "ESTAB 0 0 [1:2:3:4:5:6:7:8:9]:50 [::1]:443\n", 2, "is no address"),
    "two families": (GOOD + "ESTAB 0 0 10.0.0.1:5000 [fe80::1]:443\n", 2, "one of its addresses is of IPv4"),
    "no port": (GOOD + "ESTAB 0 0 10.0.0.1 10.9.9.9:443\n", 2, "'10.0.0.1' is not the local address and port"),
    "unknown state": (GOOD + "OPEN 0 0 10.0.0.1:5000 10.9.9.9:443\n", 2, "'OPEN' is no state that ss prints"),
    "state in lower case": (GOOD + "estab 0 0 10.0.0.1:5000 10.9.9.9:443\n", 2, "'estab' is not a state"),
    "queue without a number": (GOOD + "ESTAB 0 x 10.0.0.1:5000 10.9.9.9:443\n", 2, "'x' is not the number of bytes"),
    "cut off before the peer": (GOOD + "ESTAB 0 0 10.0.0.1:5000", 2, "it ends before the peer's address"),
    "cut off in a word": (GOOD + "ESTAB 0 0 10.0.0.1:50", 2, "it ends before the peer's address"),
    "cut off after the state": (GOOD + "ESTAB\n", 2, "it ends before the number of bytes in Recv-Q"),
    "broken inside a word": (GOOD + GOOD.replace(":443", ":4") + "43\n", 3, "'43' is not a state"),
    "two sockets in a line": (GOOD + GOOD[:-1] + " " + GOOD, 2, "does not belong behind a socket"),
    "wrong timer": (GOOD + GOOD.replace("ESTAB", "TIME-WAIT")[:-1] + " timer:(timewait,soon,0)", 2, "has no time"),
    "half a timer": (GOOD + GOOD.replace("ESTAB", "TIME-WAIT")[:-1] + " timer:(timewait,33sec", 2, "does not belong"),
    "ss and netstat": (GOOD + NETSTAT.splitlines()[1], 2, "it is of netstat, and others are of ss"),
    "netstat and /proc": (NETSTAT + GOOD_PROC, 3, "it is of /proc/net/tcp, and others are of netstat"),
    "no state of TCP": (NETSTAT + "tcp 0 0 10.0.0.1:5 10.0.0.2:6\n", 3, "it ends before the state"),
    "netstat of another system": (NETSTAT + "tcp4 0 0 10.0.0.1.443 10.9.9.9.80 ESTABLISHED\n", 3, "'tcp4' is not tcp"),
    "netstat's seconds": (NETSTAT + "tcp 0 0 1.1.1.1:5 1.1.1.2:6 TIME_WAIT timewait (x/0/0)\n", 3, "no seconds"),
    "IPv6 that may be cut off": (NETSTAT + f"tcp6 0 0 {LONG} :::* LISTEN\n", 3, "may have cut off"),
    "IPv6 that is cut off": (NETSTAT + "tcp6 0 0 2001:db8:1234:567:54321 :::* LISTEN\n", 3, "is no address"),
    "hexadecimal of another length": (PROC + GOOD_PROC.replace("0100000A:", "100000A:"), 3, "in hexadecimal"),
    "no hexadecimal": (PROC + GOOD_PROC.replace("97C6", "97G6"), 3, "is not the local address and port"),
    "state of no kernel": (PROC + GOOD_PROC.replace(" 01 ", " 1F "), 3, "'1F' is no state"),
    "/proc cut off": (PROC + GOOD_PROC[:60], 3, "it ends before"),
    "grep's names of files": (PROC + f"/proc/net/tcp:{GOOD_PROC}", 3, "is not the number of a line"),
    "state not told": ("0 0 10.0.0.1:5000 10.9.9.9:443\n", 1, "a socket without a state"),
    "two states told": (
        "$ ss -tan state time-wait; ss -tan state established\n0 0 1.1.1.1:5 1.1.1.2:6\n",
        2,
        "without a state",
    ),
    "a state that is lost, in lines of one length": (GOOD + GOOD.replace("ESTAB", "x:y  "), 2, "'x:y' is not a state"),
    "a command in place of an address": (GOOD + "ESTAB 0 0 ss -tan 10.9.9.9:443\n", 2, "'ss' is not the local address"),
    "prose behind": (SS + "and so on\n", 4, "'and' is not a state"),
    "a line of 2 MiB": (GOOD + "x" * (2 << 20), 2, "is longer than 1 MiB"),
    "a line of 2 MiB behind many": (GOOD * 30_000 + "x" * (2 << 20), 30_001, "is longer than 1 MiB"),
    "latin-1": (GOOD.encode() + b"ESTAB 0 0 caf\xe9:5000 10.9.9.9:443\n", 2, "is a name"),
    "terminal escapes": (GOOD + "ESTAB 0 0 \x1b]0;x\x07:5000 10.9.9.9:443\n", 2, "is a name"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_dump_is_refused_by_its_line(kind: str) -> None:
    """The message names the line and what is wrong with it, in printable words."""
    text, line, reason = MALFORMED[kind]
    with pytest.raises(InputError) as refused:
        read(text)
    message, hint = refused.value.message, refused.value.hint
    assert message.startswith("dump, line " if line else "dump is ")
    assert re.findall(r"^dump, line (\d+): ", message) == ([str(line)] if line else [])
    assert reason in message
    assert hint
    assert (message + hint).isprintable()
    assert len(message) < 200


@given(st.data(), st.sampled_from((SS, NETSTAT, PROC)))
def test_changed_dump_is_read_or_refused(data: st.DataObject, text: str) -> None:
    """No change of bytes ends in another exception."""
    changed = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(InputError):
        read(bytes(changed))
