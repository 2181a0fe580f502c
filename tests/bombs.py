"""Small files that are made to take much memory or time: what each does, and how it is made."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from connbench.report.formats import FORMATS
from connbench.results.csv_file import HEADER
from factories import BIND, result_of, round_of, samples_of

MB = 1_000_000
HEAD = f"{','.join(HEADER)}\n".encode()
GOOD = FORMATS["json"](result_of({BIND: [round_of(samples_of([10_000] * 50))]}))
CSV_ROW = FORMATS["csv"](result_of({BIND: [round_of(samples_of([10_000]))]})).removeprefix(HEAD.decode())


def _with(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(GOOD)
    change(document)
    return json.dumps(document, separators=(",", ":")).encode()


def _in_place_of(key: str, size: int, element: str) -> bytes:
    """A result in which the value of one key is a list of this size, in bytes."""
    many = ",".join([element] * (size // (len(element) + 1)))
    return _with(lambda d: _set(d, key, "MANY")).replace(b'"MANY"', f"[{many}]".encode())


def _set(document: Any, key: str, value: object) -> None:  # noqa: ANN401  # JSON
    *path, last = key.split(".")
    for step in path:
        document = document[int(step) if step.isdecimal() else step]
    document[last] = value


def _packed(begin: bytes, middle: bytes, end: bytes) -> bytes:
    """A gzip of a gigabyte in several members, which gzip(1) takes for one file."""
    piece = gzip.compress(middle * (10 * MB // len(middle)), 9)
    return gzip.compress(begin) + piece * 100 + gzip.compress(end)


def _zeros_in(key: str) -> bytes:
    begin, end = _with(lambda d: _set(d, key, "MANY")).split(b'"MANY"')
    return _packed(begin + b"[0", b",0", b"]" + end)


def _keys(key: str, size: int) -> bytes:
    """A result in which the value of one key is an object of many keys."""
    many = ",".join(f'"{n}":"{n}"' for n in range(size // 17))
    return _with(lambda d: _set(d, key, "MANY")).replace(b'"MANY"', f"{{{many}}}".encode())


def _of_hosts(hosts: bytes) -> bytes:
    """A fleet file whose list of hosts has this content."""
    return b'{"schema":7,"fleet":{"hosts":[' + hosts + b"]}}"


ONE_HOST = b'{"host":"a","result":' + GOOD.encode() + b"}"
LOST = b'{"host":"h%d","result":null,"fault":{"message":"x","hint":"","exit_code":6}},'
ROUND = "strategies.0.rounds.0"
BOMBS: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "gzip of a gigabyte of blanks": (
        "begins with 1 MiB of blanks",
        lambda: _packed(b"", b" ", b""),
    ),
    "gzip of a gigabyte of zeros in a column": (
        "unpacks to more than 100 times its size",
        lambda: _zeros_in(f"{ROUND}.samples.port"),
    ),
    "gzip of a gigabyte of line ends after a CSV's header": (
        "unpacks to more than 100 times its size",
        lambda: _packed(HEAD, b"\n", b""),
    ),
    "gzip in 40,000 members of nothing": (
        "is cut off",
        lambda: gzip.compress(b"{") + gzip.compress(b"") * 40_000,
    ),
    "20 MB of empty lists under a key that is ignored": (
        "",
        lambda: _in_place_of("x", 20 * MB, "[]"),
    ),
    "20 MB of empty lists as rounds": (
        "Expected `object`, got `array`",
        lambda: _in_place_of("strategies.0.rounds", 20 * MB, "[]"),
    ),
    "20 MB of empty lists in the environment": (
        "its environment takes more than 8 MiB",
        lambda: _in_place_of("environment.x", 20 * MB, "[]"),
    ),
    "7 MB of nulls in the environment": (
        "",
        lambda: _in_place_of("environment.x", 7 * MB, "null"),
    ),
    "15 MB of addresses in the plan": (
        "its plan takes more than 8 MiB",
        lambda: _in_place_of("plan.sources", 15 * MB, '"a"'),
    ),
    "15 MB of keys in the counters": (
        "its counters takes more than 8 MiB",
        lambda: _keys(f"{ROUND}.counters", 15 * MB),
    ),
    "15 MB of keys in the settings": (
        "its settings takes more than 8 MiB",
        lambda: _keys(f"{ROUND}.settings", 15 * MB),
    ),
    "the whole range reserved 60,000 times": (
        "",
        lambda: _with(
            lambda d: d["strategies"][0]["rounds"][0]["settings"].update(
                {"net.ipv4.ip_local_reserved_ports": "0-65535," * 60_000}
            )
        ),
    ),
    "30 MB of zeros in a column": (
        "columns of different lengths",
        lambda: _in_place_of(f"{ROUND}.samples.port", 30 * MB, "0"),
    ),
    "30 MB of large numbers in a column": (
        "port is 9999999999999999999",
        lambda: _in_place_of(f"{ROUND}.samples.port", 30 * MB, "9" * 19),
    ),
    "30 MB of small rounds": (
        "Expected `object`, got `int`",
        lambda: _in_place_of("strategies.0.rounds", 30 * MB, '{"number":1,"fault":null,"samples":0}'),
    ),
    "100,000 levels of lists": (
        "nested too deeply",
        lambda: _with(lambda d: _set(d, "environment.x", "M")).replace(b'"M"', b"[" * 100_000 + b"]" * 100_000),
    ),
    "900 levels of lists": (
        "environment: Expected",
        lambda: _with(lambda d: _set(d, "environment.x", "M")).replace(b'"M"', b"[" * 900 + b"]" * 900),
    ),
    "number of 5,000,000 digits": (
        "out of range",
        lambda: _with(lambda d: _set(d, "plan.seed", "M")).replace(b'"M"', b"9" * 5 * MB),
    ),
    "number of 4,300 digits": (
        "connections is a number of 14285 bits",
        lambda: _with(lambda d: _set(d, "plan.connections", "M")).replace(b'"M"', b"9" * 4300),
    ),
    "20 MB of empty hosts": (
        "occurs twice",
        lambda: _of_hosts(b'{"host":"a","result":0},' * 800_000 + ONE_HOST),
    ),
    "a million lists for hosts": (
        "Expected `object`, got `array`",
        lambda: _of_hosts(b"[]," * MB + ONE_HOST),
    ),
    "300,000 hosts that were lost": (
        "it has more than 10,000 hosts",
        lambda: _of_hosts(b"".join(LOST % number for number in range(300_000)) + ONE_HOST),
    ),
    "9,000 hosts that were lost": (
        "",
        lambda: _of_hosts(b"".join(LOST % number for number in range(9000)) + ONE_HOST),
    ),
    "fleets in a fleet, 30 deep": (
        "host a is JSON, but not a result of connbench",
        lambda: _of_hosts(
            reduce(lambda inner, _: b'{"host":"a","result":' + _of_hosts(inner) + b"}", range(30), ONE_HOST)
        ),
    ),
    "a CSV of 300,000 hosts": (
        "it has more than 10,000 hosts",
        lambda: b"host," + HEAD + b"".join(b"h%d,%s" % (n, CSV_ROW.encode()) for n in range(300_000)),
    ),
    "gzip of a gigabyte of hosts": (
        "unpacks to more than 100 times its size",
        lambda: _packed(b'{"schema":7,"fleet":{"hosts":[', b'{"host":"a","result":0},', ONE_HOST + b"]}}"),
    ),
    "line of 100 MB in a CSV": (
        "line 2 is longer than 1 MiB",
        lambda: HEAD + b"x" * 100 * MB + b"\n",
    ),
    "first line of 100 MB": (
        "it begins with 'xxx",
        lambda: b"x" * 100 * MB,
    ),
    "a megabyte of blanks before a letter": (
        "it begins with '   ",
        lambda: b" " * (MB - 1) + b"x\n",
    ),
    "cell of 200 kB in a CSV": (
        "line 2: fields are missing",
        lambda: HEAD + b"y" * 200_000 + CSV_ROW.encode(),
    ),
    "cell of 4,300 digits in a CSV": (
        "is not a whole number",
        lambda: HEAD + CSV_ROW.replace("fill,1", "fill," + "9" * 4300).encode(),
    ),
    "20 MB of line ends in a talk CSV": (
        "line 2: '' is not port,seconds",
        lambda: b"9024,0.1\n" + b"\n" * 20 * MB,
    ),
    "20 MB of line ends of another kind": (
        "line 2 is longer than 1 MiB",
        lambda: b"9024,0.1\n" + b"\r" * 20 * MB + b"\n",
    ),
}
"""What a file does, what connbench says of it (nothing where it accepts the file as a result), and its bytes."""
