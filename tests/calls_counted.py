"""Counts the calls of a kernel function by a probe, in a kernel that can be traced."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = 'BEGIN {{ printf("attached\\n"); }} kprobe:{function} {{ @calls = count(); }}'
IN_CONNECT, IN_BIND = "__inet_check_established", "inet_csk_bind_conflict*"
"""Called for each port that has a bind bucket. A compiler may add a suffix to the name of a static function."""


@contextmanager
def counting(counts: list[int], function: str) -> Iterator[None]:
    """A probe of a function for the time of the block, whose count is added to `counts`."""
    command = [str(shutil.which("bpftrace")), "-e", PROGRAM.format(function=function)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        while tracer.stdout.readline() != "attached\n":
            assert tracer.poll() is None, "bpftrace did not attach its probe"
        yield
        tracer.send_signal(signal.SIGINT)
        said = tracer.stdout.read()
    counted = re.search(r"@calls: (\d+)", said)
    assert counted, said
    counts.append(int(counted[1]))
