"""Reads sockets from what `ss`, `netstat` or /proc/net printed, perhaps on another host.

Such text comes from a file, a terminal or a chat: with a prompt before it, without its header, indented, or with its
columns wrapped onto further lines. A line is either a socket, or known to be none; any other line is an error, because
a socket that is passed over makes each count wrong.

A regular expression reads a piece of the text at once, and dictionaries convert its words: there is no step of Python
for each line.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Generic, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from connbench.errors import InputError
from connbench.inspect.sockets import STATE_NAMES, UNKNOWN, Array, Sockets, State
from connbench.model.addresses import MAX_PORT
from connbench.results.input_file import PIECE, FileKind
from connbench.safe_text import printable

Key = TypeVar("Key")
Value = TypeVar("Value")

AGAIN = "take it again: ss -tano > FILE"
NUMBERS = "take it with numbers: ss -tano > FILE, or netstat -tano --wide > FILE"

CUT_AT = 23
"""Without --wide, netstat cuts an address so that it has 23 characters with its port (net-tools, `addr_do_one`)."""

LARGEST_PASTE = 16 << 20
"""Bytes of what a terminal may have wrapped: more lines than one keeps."""

_MS_PER_TICK = 10
"""/proc/net/tcp counts timers in ticks of USER_HZ, 100 a second on every architecture that Linux has today."""

_LONGEST_MS = 2**31 - 1
"""The longest time that a column holds; no socket is in TIME_WAIT for as long."""

_SHOWN = 40


class _MalformedError(ValueError):
    """A line is none of its format.

    Args:
        reason: What is wrong with it.
        hint: What to do.
    """

    def __init__(self, reason: str, hint: str = AGAIN) -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Format:
    """A format of dumps.

    Attributes:
        name: As messages name it.
        pattern: Matches a socket; or, in its group `odd`, a line that is none.
        fields: What each word of a line is, and its pattern.
        prefix: Matches the words before them, which a line may lack.
        states: The states by their words.
        host: An address as family, two words, and the name of a device.
        port: A port.
        timer_ms: What is left of TIME_WAIT's timer.
    """

    name: str
    pattern: re.Pattern[bytes]
    fields: Sequence[tuple[str, re.Pattern[bytes]]]
    prefix: re.Pattern[bytes]
    states: Mapping[bytes, int]
    host: Callable[[bytes], _Host]
    port: Callable[[bytes], int]
    timer_ms: Callable[[bytes], int]

    @classmethod
    def of(  # noqa: PLR0913  # one for each attribute
        cls,
        name: str,
        prefix: bytes,
        fields: Mapping[str, bytes],
        rest: bytes,
        *,
        states: Mapping[bytes, int],
        host: Callable[[bytes], _Host],
        port: Callable[[bytes], int],
        timer_ms: Callable[[bytes], int],
    ) -> _Format:
        """Make a format of the patterns of its words; `rest` matches what follows them."""
        words = rb"\s++".join(fields.values())
        pattern = re.compile(rb"^[ \t]*+" + prefix + words + rest + rb"[ \t\r]*+$|^(?P<odd>[^\n]+)$", re.MULTILINE)
        of_words = tuple((what, re.compile(word)) for what, word in fields.items())
        return cls(name, pattern, of_words, re.compile(prefix), states, host, port, timer_ms)


@dataclass(frozen=True, slots=True)
class _Host:
    """An address of a dump.

    Attributes:
        family: 4 or 6.
        high: Its first word.
        low: Its second word.
        device: The name of the device after `%`; empty without one.
    """

    family: int
    high: int
    low: int
    device: bytes = b""


class _Table(dict[Key, Value], Generic[Key, Value]):
    """Values by key; a missing one is made."""

    def __init__(self, make: Callable[[Key], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Key) -> Value:
        value = self[key] = self._make(key)
        return value


def _shown(word: bytes) -> str:
    return repr(printable(word[:_SHOWN].decode(errors="replace")))


def _host(text: bytes) -> _Host:
    """The address in `10.0.0.1`, `[fe80::1]%eth0`, `fe80::1` or `*`."""
    address, _, device = text.replace(b"[", b"", 1).replace(b"]", b"", 1).partition(b"%")
    if address == b"*":
        return _Host(6, 0, 0, device)
    try:
        if b":" not in address:
            return _Host(4, 0, int.from_bytes(socket.inet_pton(socket.AF_INET, address.decode()), "big"), device)
        packed = socket.inet_pton(socket.AF_INET6, address.decode())
    except (OSError, ValueError) as error:
        if b":" not in address and re.search(rb"[^\d.]", address):
            raise _MalformedError(f"{_shown(text)} is a name, not an address", NUMBERS) from error
        raise _MalformedError(f"{_shown(text)} is no address", NUMBERS) from error
    return _of_packed(packed, device)


def _of_packed(packed: bytes, device: bytes = b"") -> _Host:
    """The address in 16 bytes; an IPv4-mapped one is of family 4."""
    high, low = int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big")
    is_mapped = not high and low >> 32 == 0xFFFF  # RFC 4291, section 2.5.5.2
    return _Host(4, 0, low & 0xFFFFFFFF, device) if is_mapped else _Host(6, high, low, device)


def _host_of_hex(text: bytes) -> _Host:
    """The address as /proc/net prints it: words of 32 bits in the byte order of the host, here little-endian."""
    packed = bytes.fromhex(text.decode())
    if len(packed) == 4:  # the bytes of an IPv4 address
        return _Host(4, 0, int.from_bytes(packed, "little"))
    return _of_packed(b"".join(packed[at : at + 4][::-1] for at in range(0, 16, 4)))


def _port(text: bytes) -> int:
    if text == b"*":
        return 0
    if not text.isdigit():
        raise _MalformedError(f"the port {_shown(text)} is a name, not a number", NUMBERS)
    if len(text) > len(str(MAX_PORT)) or int(text) > MAX_PORT:
        raise _MalformedError(f"{_shown(text)} is no port: the largest is {MAX_PORT}")
    return int(text)


def _port_of_hex(text: bytes) -> int:
    return int(text, 16)


_SS_TIME = re.compile(rb"timewait,(?:(\d{1,5})min)?(?:(\d{1,5})(?:sec|\.(\d{3})(?:sec|ms)))?(?:(\d{3})ms)?")


def _ms_of_ss(text: bytes) -> int:
    """`1min5sec`, `33sec`, `1.234sec` (`1.234ms` in old versions), `034ms`; nothing at all is 0 (`print_ms_timer`)."""
    found = _SS_TIME.fullmatch(text)
    if not found:
        raise _MalformedError(f"{_shown(text)} has no time of a timer, such as 33sec")
    minutes, seconds, thousandths, alone = (int(part or 0) for part in found.groups())
    return min((minutes * 60 + seconds) * 1000 + thousandths + alone, _LONGEST_MS)


def _ms_of_netstat(text: bytes) -> int:
    """`timewait (33.21/0/0)`, in seconds."""
    seconds = text.partition(b"(")[2].partition(b"/")[0]
    if not re.fullmatch(rb"\d{1,6}\.\d\d", seconds):
        raise _MalformedError(f"{_shown(text)} has no seconds of a timer, such as 33.21")
    return int(seconds.replace(b".", b"")) * _MS_PER_TICK


def _ms_of_proc(text: bytes) -> int:
    """`03:00000CF9`, in ticks."""
    return min(int(text.partition(b":")[2], 16) * _MS_PER_TICK, _LONGEST_MS)


_ADDRESS_OF = {  # most are of IPv4, whose end is found sooner
    "the local address and port": rb"(?P<local>[\d.]++|\S+):(?P<local_port>[^\s:]+)",
    "the peer's address and port": rb"(?P<remote>[\d.]++|\S+):(?P<remote_port>[^\s:]+)",
}
_QUEUES = {"the number of bytes in Recv-Q": rb"\d+", "the number of bytes in Send-Q": rb"\d+"}
_OTHERS = rb"nl|[up]_[a-z]+|raw6?|icmp6?|sctp|v_[a-z]+|ti_[a-z]+|xdp|mptcp|dccp|udplite6?|unix|unknown|\?\?\?"
"""The first words of lines that list other sockets than those of TCP and UDP."""

_SS_PREFIX = rb"(?:(?P<protocol>tcp|udp)\s++)?"
_SS_REST = (
    rb"(?:(?=\s++(?:users|timer|uid|ino):)(?:\s++users:\(\([^\n]*\)\))?"
    rb"(?:\s++timer:\((?:(?P<timer>timewait,[^,\n]*)|(?!timewait)[^\n)]*),\d+\))?"
    rb"(?:\s++uid:\d+)?(?:\s++ino:(?P<inode>\d{1,19})\b)?)?"
    # What -e, -m and -i add begins with a lower-case letter, or is an arrow, on this line or on indented ones.
    rb"(?:[ \t]++(?=[a-z(<-])(?!timer:)[^\n]*+)?"
    rb"(?:\n(?:[ \t]++(?=[a-z(<-])|(?=skmem:|cgroup:|sk:|[<-]-[->]))(?!(?:tcp|udp|" + _OTHERS + rb")6?\s)[^\n]*+)*+"
)
_SS_STATES = {name.encode(): int(state) for state, name in STATE_NAMES.items() if state != State.NEW_SYN_RECV}

SS = _Format.of(
    "ss",
    _SS_PREFIX,
    {"a state, such as ESTAB": rb"(?P<state>[A-Z][A-Z0-9-]+)", **_QUEUES, **_ADDRESS_OF},
    _SS_REST,
    states=_SS_STATES | {b"UNDEF": int(State.BOUND_INACTIVE)},  # ss 6.18 has no name for it
    host=_host,
    port=_port,
    timer_ms=_ms_of_ss,
)
SS_OF_ONE_STATE = _Format.of(
    "ss without states",
    _SS_PREFIX + rb"(?P<state>)",
    {**_QUEUES, **_ADDRESS_OF},
    _SS_REST,
    states={b"": 0},
    host=_host,
    port=_port,
    timer_ms=_ms_of_ss,
)
"""`ss state time-wait`: ss leaves out the column of a state that all sockets have."""

_NETSTAT_TIMER = rb"(?:off|on|keepalive|timewait|probe|unkn-\d+) \("
NETSTAT = _Format.of(
    "netstat",
    rb"",
    {"tcp, tcp6, udp or udp6": rb"(?P<protocol>tcp|udp)6?", **_QUEUES, **_ADDRESS_OF},
    rb"(?:\s++(?P<state>[A-Z][A-Z0-9_]+)(?=\s|\Z))?(?:[ \t]++\d+[ \t]++(?P<inode>\d{1,19})(?=\s|\Z))?"
    rb"(?:\s++(?:-(?=\s|\Z)|\d++/\S*+(?:[ \t]++(?!" + _NETSTAT_TIMER + rb")\S++)*+))?"
    rb"(?:\s++(?:(?P<timer>timewait \([^/\s]*)/\d+/\d+\)|(?!timewait)" + _NETSTAT_TIMER + rb"[^)\n]*\)))?",
    states={
        b"": int(State.CLOSE),
        b"ESTABLISHED": int(State.ESTABLISHED),
        b"SYN_SENT": int(State.SYN_SENT),
        b"SYN_RECV": int(State.SYN_RECV),
        b"FIN_WAIT1": int(State.FIN_WAIT1),
        b"FIN_WAIT2": int(State.FIN_WAIT2),
        b"TIME_WAIT": int(State.TIME_WAIT),
        b"CLOSE": int(State.CLOSE),
        b"CLOSE_WAIT": int(State.CLOSE_WAIT),
        b"LAST_ACK": int(State.LAST_ACK),
        b"LISTEN": int(State.LISTEN),
        b"CLOSING": int(State.CLOSING),
    },
    host=_host,
    port=_port,
    timer_ms=_ms_of_netstat,
)

_HEX = rb"[0-9A-Fa-f]"
_HEX_ADDRESS = rb"(?P<%b>%b{8}|%b{32}):(?P<%b>%b{4})"
PROC = _Format.of(
    "/proc/net/tcp",
    rb"",
    {
        "the number of a line, such as 0:": rb"\d+:",
        "the local address and port in hexadecimal": _HEX_ADDRESS % (b"local", _HEX, _HEX, b"local_port", _HEX),
        "the peer's address and port in hexadecimal": _HEX_ADDRESS % (b"remote", _HEX, _HEX, b"remote_port", _HEX),
        "a state of two hexadecimal digits": rb"(?P<state>%b{2})" % _HEX,
        "tx_queue:rx_queue": rb"%b{8}:%b{8}" % (_HEX, _HEX),
        "tr:tm->when": rb"(?:(?P<timer>03:%b{1,16})|(?!03)%b{2}:%b{1,16})" % (_HEX, _HEX, _HEX),
        "retrnsmt": rb"%b{8}" % _HEX,
        "uid": rb"\d+",
        "timeout": rb"-?\d+",
        "inode": rb"(?P<inode>\d{1,19})",
    },
    # UDP has three further columns; TCP has two in TIME_WAIT and SYN_RECV, and seven otherwise.
    rb"(?:[ \t]++\d+[ \t]++\S+(?:(?P<protocol>[ \t]++\d+(?=[ \t\r]*$))|(?:[ \t]++-?\d+){5})?)?",
    states={f"{int(state):02X}".encode(): int(state) for state in State},
    host=_host_of_hex,
    port=_port_of_hex,
    timer_ms=_ms_of_proc,
)

FORMATS: Final = (SS, NETSTAT, PROC, SS_OF_ONE_STATE)
COMMANDS: Final = "`ss -tan`, `netstat -tan` or /proc/net/tcp"

_HEADERS: Final = (
    (SS, re.compile(rb"^[ \t]*(?:Netid\s+)?State\s+Recv-Q", re.MULTILINE)),
    (SS_OF_ONE_STATE, re.compile(rb"^[ \t]*(?:Netid\s+)?Recv-Q\s+Send-Q", re.MULTILINE)),
    (NETSTAT, re.compile(rb"^[ \t]*Proto\s+Recv-Q\s+Send-Q", re.MULTILINE)),
    (PROC, re.compile(rb"^[ \t]*sl\s+local_address", re.MULTILINE)),
)
_HEADER_WORDS = frozenset(
    b"Netid State Recv-Q Send-Q Local Peer Foreign Address:Port Address Port Process PortProcess Address:PortProcess "
    b"Proto PID/Program name Timer User Inode RefCnt Flags Type I-Node Path "
    b"sl local_address rem_address remote_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref "
    b"pointer drops".split()
)
_TWO_ADDRESSES = re.compile(rb"[\w.:\]*]:[\w*]+\s+\S*[\w.:\]*]:[\w*]+(?:\s|$)")
_BEGINS = rb"(?:(?:tcp|udp)6?|[A-Z][A-Z0-9_-]+|\d+[ \t]+\d+)(?:\s|$)"
"""How a line of a socket begins, but for /proc/net."""

_NO_SOCKET = re.compile(
    rb"\s*(?:"
    rb"$|Active |```|Script (?:started|done)|\((?:Not all processes|No info)|will not be shown|"
    rb"(?:" + _OTHERS + rb")\s|"
    # a command, with or without a prompt
    rb"(?!" + _BEGINS + rb")(?:[^\n]*[\s/;&|$#%>'])?(?:ss|netstat)\s+-|[^\n]*/proc/net/(?:tcp|udp)6?\b|"
    # a prompt, with or without a command
    rb"(?!" + _BEGINS + rb")(?:[^\s]+\s)?[^\s]*[\w~\])/:]?(?:[$#%>]|\xe2\x9d\xaf)(?:\s|$)"
    rb")"
)
_STATE_FILTER = re.compile(rb"\bstate[\s='\"]+([a-z0-9-]+)", re.IGNORECASE)
_FILTERED = {
    **{name.lower(): state for name, state in _SS_STATES.items()},
    b"established": int(State.ESTABLISHED),
    b"listening": int(State.LISTEN),
    b"unconnected": int(State.CLOSE),
    b"closed": int(State.CLOSE),
}
"""The states as ss takes them in a filter."""


def _is_no_socket(line: bytes) -> bool:
    """Whether a line is known to be no socket: a header, a prompt, a command, a line of another kind of socket."""
    if all(word in _HEADER_WORDS for word in line.split()):
        return True
    return bool(_NO_SOCKET.match(line)) and (bool(_OTHER_LINE.match(line)) or not _TWO_ADDRESSES.search(line))


_OTHER_LINE = re.compile(rb"\s*(?:" + _OTHERS + rb")\s")


def read_dump(data: bytes, name: str, devices: dict[int, str] | None = None) -> Sockets:
    """The sockets of a dump, in its order.

    The device after a `%` has a number that counts the devices of the dump from 1 on: a dump names devices of its host.

    Args:
        data: What `ss`, `netstat` or /proc/net printed; see `FORMATS`.
        name: The name of the file, for messages.
        devices: Gets the names of the devices by these numbers.

    Raises:
        InputError: It is no such dump, or one of its lines cannot be read.
    """
    text = _checked(data, name)
    try:
        reading = _Reading(text, name)
    except InputError:
        joined = None
        if len(text) <= LARGEST_PASTE:
            with suppress(InputError):  # the error about the text as it is names its line
                joined = _Reading(_unwrapped(text), name)
        if joined is None:
            raise
        reading = joined
    if devices is not None:
        devices.update((number, printable(one.decode(errors="replace"))) for one, number in reading.devices.items())
    return reading.sockets


def _checked(data: bytes, name: str) -> bytes:
    """The text of a dump with line ends as Unix has them.

    Raises:
        InputError: It is no text of bytes.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name} is UTF-16 text", "write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE")
    if (at := data.find(b"\0")) >= 0:
        raise InputError(f"{name}, line {_line(data, at)}: a NUL byte, which no dump has", AGAIN)
    text = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in text:  # one byte is found in a tenth of the time of two
        text = text.replace(b"\r\n", b"\n")
    if b"\xa0" in text:  # the blank of a page in a browser
        text = text.replace(b"\xc2\xa0", b" ")
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", text) if b"\x1b" in text else text  # colours


def _unwrapped(text: bytes) -> bytes:
    """A text whose longest lines go on in the line after: a terminal of this width broke them, also inside a word.

    A line that is shorter ends there, or was broken at blanks, which are not copied with it. A line that begins like a
    socket, or has all of one but its state, is none that goes on: it must not vanish in the one before.
    """
    width = max(map(len, text.split(b"\n")))
    begins = rb"[ \t]*" + _BEGINS + rb"|(?:[^\n]*[ \t])?\d+[ \t]+\d+[ \t]+\S+:"
    return re.sub(rb"(?m)^([^\n]{%d})\n(?!%b)" % (width, begins), rb"\1", text)


def _line(text: bytes, at: int) -> int:
    return text.count(b"\n", 0, at) + 1


def _recognise(text: bytes) -> _Format | None:
    """The format of a text by its first socket, or by its header if it has none; None if it has neither."""
    begin = text[:PIECE]
    found = [(header.search(begin), form) for form, header in _HEADERS]
    headers = [(match.start(), form) for match, form in found if match]
    if headers:
        return min(headers, key=lambda one: one[0])[1]
    sockets = []
    for at, form in enumerate(FORMATS):
        match = next((one for one in form.pattern.finditer(begin) if not one["odd"]), None)
        if match:
            sockets.append((match.start(), at))
    return FORMATS[min(sockets)[1]] if sockets else None


def check_begin(piece: bytes, name: str) -> None:
    """Refuse a file that has no end by its first piece.

    Raises:
        InputError: The piece has neither a socket nor a header.
    """
    if len(piece) >= PIECE and not _recognise(_checked(piece, name)):
        _refuse_unknown(piece, name)


DUMP = FileKind("dump of sockets", f"a dump is what {COMMANDS} prints", check_begin)


def _refuse_unknown(text: bytes, name: str) -> NoReturn:
    first = text.lstrip().partition(b"\n")[0]
    begins = f"it begins with {_shown(first)}" if first else "it is empty"
    raise InputError(f"{name} is no dump of sockets: {begins}", DUMP.known)


@dataclass(slots=True)
class _Reading:
    """The reading of one text.

    Attributes:
        text: The text.
        name: The name of the file.
        form: The format of the text.
        filters: The states that commands in the text ask for.
        ports: The ports by their words; the table is the same for all pieces, because it has few values.
        devices: The numbers of devices by their names.
        longest: The length of the longest IPv6 address and port.
        suspect: The first IPv6 address and port that netstat may have cut off; empty without one.
        sockets: All sockets of the text.

    Raises:
        InputError: See `read_dump`.
    """

    text: bytes
    name: str
    form: _Format = field(init=False)
    filters: set[int] = field(default_factory=set)
    ports: _Table[bytes, int] = field(init=False)
    devices: dict[bytes, int] = field(default_factory=lambda: {b"": 0})
    longest: int = 0
    suspect: bytes = b""
    sockets: Sockets = field(init=False)

    def __post_init__(self) -> None:
        form = _recognise(self.text)
        if form is None:
            _refuse_unknown(self.text, self.name)
        self.form = form
        self.ports = _Table(form.port)
        found = Sockets.concatenate([self._read(begin, end) for begin, end in self._pieces()])
        if self.suspect and self.longest <= CUT_AT:
            self._refuse(
                self.text.find(self.suspect),
                _MalformedError(
                    f"netstat may have cut off {_shown(self.suspect)}: it has {CUT_AT} characters",
                    "take it with --wide: netstat -tano --wide > FILE, or with ss -tano",
                ),
            )
        self.sockets = self._resolve(found)

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """Where pieces of the text begin and end, each with whole sockets.

        Raises:
            InputError: A line is longer than a piece.
        """
        begin = 0
        while begin < len(self.text):
            end = len(self.text)
            if end - begin > PIECE:
                cut = self.text.rfind(b"\n", begin, begin + PIECE) + 1
                if not cut:
                    self._refuse(begin, _MalformedError(f"it is longer than {PIECE >> 20} MiB"))
                end = self._next_socket(cut, end)
            yield begin, end
            begin = end

    def _next_socket(self, begin: int, end: int) -> int:
        """Where the next socket begins: the lines before it may belong to the one before."""
        near = min(end, begin + PIECE)
        found = (one.start() for one in self.form.pattern.finditer(self.text, begin, near) if not one["odd"])
        return next(found, near if near == end else self.text.rfind(b"\n", begin, near) + 1 or begin)

    def _read(self, begin: int, end: int) -> Sockets:
        """The sockets of a piece.

        Raises:
            InputError: A line of it cannot be read.
        """
        pattern = self.form.pattern
        rows = pattern.findall(self.text, begin, end)
        at = pattern.groupindex["odd"] - 1
        odd = [index for index, row in enumerate(rows) if row[at]]
        for index in odd:
            self._pass_over(rows[index][at], begin, end, index)
        records = [row for row in rows if not row[at]] if odd else rows
        try:
            return self._convert(records)
        except _MalformedError:
            for match in pattern.finditer(self.text, begin, end):  # one after the other, to name the line
                if not match["odd"]:
                    self._convert_one(match)
            raise

    def _convert_one(self, match: re.Match[bytes]) -> None:
        try:
            self._convert([match.groups(b"")])
        except _MalformedError as fault:
            self._refuse(match.start(), fault)

    def _pass_over(self, line: bytes, begin: int, end: int, index: int) -> None:
        """Check that the line in row `index` of a piece is known to be no socket.

        Raises:
            InputError: It is not.
        """
        if _is_no_socket(line):
            self.filters.update(_FILTERED[word] for word in _STATE_FILTER.findall(line.lower()) if word in _FILTERED)
            return
        start = next(islice(self.form.pattern.finditer(self.text, begin, end), index, None)).start()
        self._refuse(start, _explain(line, self.form))

    def _convert(self, records: Sequence[tuple[bytes, ...]]) -> Sockets:
        """Sockets of the groups of the format's pattern.

        Raises:
            _MalformedError: A word of one is not what it should be.
        """
        if not records:
            return Sockets.empty()
        form, words = self.form, list(zip(*records, strict=True))
        columns = {group: words[at - 1] for group, at in form.pattern.groupindex.items()}
        hosts: _Table[bytes, int] = _Table(lambda text: self._number(text, made))
        made: list[_Host] = []
        local, remote = (_numbers(columns[side], hosts, np.intp) for side in ("local", "remote"))
        addresses = np.array([(one.high, one.low) for one in made], dtype=np.uint64)
        families = np.array([one.family for one in made], dtype=np.uint8)
        devices = np.array([self.devices[one.device] for one in made], dtype=np.uint32)
        is_ipv4 = (families[local] == 4) | (families[remote] == 4)  # IPv4
        for side in (local, remote):
            if (is_ipv4 & (families[side] == 6) & addresses[side].any(axis=1)).any():  # IPv6
                raise _MalformedError("one of its addresses is of IPv4, the other of IPv6")
        states = _numbers(columns["state"], _Table(self._state), np.uint8)
        protocols = _numbers(columns["protocol"], _Table(self._protocol), np.uint8)
        expires: _Table[bytes, int] = _Table(lambda text: form.timer_ms(text) if text else UNKNOWN)
        left = _numbers(columns["timer"], expires, np.int32)
        if form is NETSTAT:
            self._check_netstat(columns, hosts)
        return Sockets.of(
            protocol=protocols,
            family=np.where(is_ipv4, 4, 6),
            state=states,
            expires_ms=left,
            interface=np.maximum(devices[local], devices[remote]),
            local=addresses[local],
            remote=addresses[remote],
            local_port=_numbers(columns["local_port"], self.ports, np.uint16),
            remote_port=_numbers(columns["remote_port"], self.ports, np.uint16),
            inode=_numbers(columns["inode"], _Table(lambda text: int(text or 0)), np.uint64),
        )

    def _number(self, text: bytes, made: list[_Host]) -> int:
        """The index of an address among those that are made, after making it."""
        host = self.form.host(text)
        self.devices.setdefault(host.device, len(self.devices))
        made.append(host)
        return len(made) - 1

    def _state(self, word: bytes) -> int:
        found = self.form.states.get(word.upper())
        if found is None:
            raise _MalformedError(f"{_shown(word)} is no state that {self.form.name} prints")
        return found

    def _protocol(self, word: bytes) -> int:
        """The protocol of a line; 0 for one of ss that does not say it."""
        if word:
            return socket.IPPROTO_TCP if word == b"tcp" else socket.IPPROTO_UDP
        return socket.IPPROTO_TCP if self.form is PROC else 0

    def _check_netstat(self, columns: Mapping[str, Sequence[bytes]], hosts: Iterable[bytes]) -> None:
        """Check what netstat can leave out: the state of UDP, and the end of a long IPv6 address.

        Args:
            columns: The words of each group of the pattern.
            hosts: All addresses, each once.

        Raises:
            _MalformedError: A socket of TCP has no state.
        """
        if b"" in columns["state"] and (b"tcp", b"") in zip(columns["protocol"], columns["state"], strict=True):
            raise _MalformedError("it ends before the state")
        if not any(b":" in host for host in hosts):
            return
        for side in ("local", "remote"):
            for host, port in zip(columns[side], columns[f"{side}_port"], strict=True):
                if b":" in host and (length := len(host) + 1 + len(port)) >= CUT_AT:
                    self.longest = max(self.longest, length)
                    self.suspect = self.suspect or host + b":" + port

    def _resolve(self, found: Sockets) -> Sockets:
        """Fill in the protocol and the state that ss leaves out where all sockets have the same.

        Raises:
            InputError: The text does not tell the state.
        """
        protocol, state = found.protocol, found.state
        is_udp = ((protocol == 0) & (state == State.CLOSE)).any()  # a TCP socket in CLOSE is in no list of the kernel
        protocol = np.where(protocol == 0, socket.IPPROTO_UDP if is_udp else socket.IPPROTO_TCP, protocol)
        if self.form is SS_OF_ONE_STATE and len(found):
            known = [int(State.TIME_WAIT)] if (found.expires_ms != UNKNOWN).all() else [*self.filters]
            if len(known) != 1:
                first = next(one for one in self.form.pattern.finditer(self.text) if not one["odd"])
                self._refuse(
                    first.start(),
                    _MalformedError(
                        "a socket without a state, and no line such as `ss -tan state time-wait` that tells it",
                        "put that line before the sockets, or take them with their states: ss -tano > FILE",
                    ),
                )
            state = np.full(len(found), known[0])
        left = np.where(state == State.TIME_WAIT, found.expires_ms, UNKNOWN)
        return replace(found, protocol=protocol.astype(np.uint8), state=state.astype(np.uint8), expires_ms=left)

    def _refuse(self, at: int, fault: _MalformedError) -> NoReturn:
        raise InputError(f"{self.name}, line {_line(self.text, at)}: {fault}", fault.hint) from fault


def _numbers(words: Sequence[bytes], table: Mapping[bytes, int], kind: npt.DTypeLike) -> Array:
    return np.fromiter(map(table.__getitem__, words), dtype=kind, count=len(words))


def _explain(line: bytes, form: _Format) -> _MalformedError:
    """What is wrong with a line that is neither a socket nor known to be none."""
    other = next(
        (one for one in FORMATS if one is not form and (found := one.pattern.match(line)) and not found["odd"]), None
    )
    if other:
        return _MalformedError(f"it is of {other.name}, and others are of {form.name}", "give one dump in each file")
    words = form.prefix.sub(b"", line.lstrip(), count=1).split()
    for at, (what, pattern) in enumerate(form.fields):
        if at == len(words):
            return _MalformedError(f"it ends before {what}")
        if not pattern.fullmatch(words[at]):
            return _MalformedError(f"{_shown(words[at])} is not {what}")
    rest = words[len(form.fields) :]
    return _MalformedError(f"{_shown(b' '.join(rest))} does not belong behind a socket")
