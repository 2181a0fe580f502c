"""The bpftrace programs, made to suit this kernel."""

from __future__ import annotations

import re
from enum import StrEnum
from importlib import resources


class Trace(StrEnum):
    """What can be watched: a program each, `programs/NAME.bt`."""

    LATENCY = "latency"
    PARITY = "parity"
    OFFSETS = "offsets"


class Probes(StrEnum):
    """How functions are watched: kprobes, or BPF trampolines, which cost less and which not every kernel has."""

    KPROBE = "kprobe"
    KFUNC = "kfunc"


FUNCTIONS = {
    Trace.LATENCY: ("tcp_v4_connect", "tcp_connect"),
    Trace.PARITY: ("tcp_v4_connect", "tcp_connect"),
    Trace.OFFSETS: ("tcp_v4_connect", "tcp_connect", "__inet_check_established"),
}
"""What the kernel must have; its IPv6 kin may be missing, as a module that is not loaded."""

OF_IPV6 = ("tcp_v6_connect", "__inet6_check_established")

_ARGUMENTS = {"arg0": "args->sk", "arg2": "args->lport"}
"""What kfunc calls the arguments that kprobe numbers: tcp_v4_connect(sk), tcp_connect(sk), and of
__inet_check_established(, , lport)."""


def program(trace: Trace, functions: frozenset[str], probes: Probes = Probes.KPROBE) -> str:
    """The text of a program.

    Args:
        trace: What it is to watch.
        functions: Those the kernel has: probes of IPv6 on others are left out.
        probes: How.
    """
    text = (resources.files(__package__) / "programs" / f"{trace}.bt").read_text(encoding="utf-8")
    for absent in set(OF_IPV6) - functions:
        text = re.sub(rf"^k(ret)?probe:{absent},\n", "", text, flags=re.MULTILINE)
    if probes is Probes.KFUNC:
        text = re.sub(r"^k(ret)?probe:", r"k\1func:", text, flags=re.MULTILINE)
        text = re.sub(r"\barg[02]\b", lambda found: _ARGUMENTS[found[0]], text)
    return text
