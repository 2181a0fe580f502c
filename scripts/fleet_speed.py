"""Measures how long `connbench fleet merge` and `connbench report` take for the result files of many hosts.

Each host opened as many connections as the talk's range has ports. The files are made in a temporary folder, and read
and written by the commands as a user runs them. It prints seconds and the peak of memory; the exit code is 1 if a limit
is missed. `fleet_speed.py 3 100` names the numbers of hosts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from connbench.report.formats import FORMATS
from connbench.results.output_file import Output
from resultfiles import made_result

CONNBENCH = str(Path(sys.executable).with_name("connbench"))
ATTEMPTS = 56_512
USUAL = (3, 100)
LIMITS = {3: (5.0, 2e9), 100: (60.0, 2e9)}
"""By the number of hosts: seconds of both commands together, and bytes of memory of the larger one."""


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds, those of a CPU, and the most bytes that it had in memory."""

    seconds: float
    cpu_s: float
    memory: float

    def __str__(self) -> str:
        """The figures for a line of the table, memory in MB."""
        return f"{self.seconds:>10.2f}{self.cpu_s:>8.2f}{self.memory / 1e6:>8.0f}"


def cost_of(*arguments: str) -> Cost:
    """Run connbench.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    begun = time.perf_counter()
    process = subprocess.Popen([CONNBENCH, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments[:2])
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0)


def make_files(folder: Path, hosts: int) -> list[str]:
    """The result file of each host, as `run -o` writes it."""
    files = []
    for number in range(hosts):
        result = made_result(ATTEMPTS, 1, seed=number)
        result.environment["hostname"] = f"web{number + 1}"
        file = folder / f"{number}.json.gz"
        with Output(file) as output:
            output.save(FORMATS["json"](result))
        files.append(str(file))
    return files


def measure(hosts: int) -> bool:
    """Merge and report so many hosts, and print a line; whether that kept the limits."""
    with tempfile.TemporaryDirectory() as folder:
        files, fleet = make_files(Path(folder), hosts), Path(folder) / "fleet.json.gz"
        merge = cost_of("fleet", "merge", *files, "-q", "-o", str(fleet))
        report = cost_of("report", str(fleet))
        size = fleet.stat().st_size / 1e6
    longest, most = LIMITS.get(hosts, (float("inf"), float("inf")))
    is_within = merge.seconds + report.seconds <= longest and max(merge.memory, report.memory) <= most
    verdict = "" if is_within else f"  missed: {longest:g} s, {most / 1e6:g} MB"
    print(f"{hosts:>5}{size:>9.1f}{merge}{report}{verdict}", flush=True)
    return is_within


def main() -> int:
    """Measure for each number of hosts."""
    print(f"{ATTEMPTS:,} attempts on each host\n")
    columns = f"{'CPU s':>8}{'MB':>8}"
    print(f"{'hosts':>5}{'file MB':>9}{'merge s':>10}{columns}{'report s':>10}{columns}")
    is_within = [measure(hosts) for hosts in map(int, sys.argv[1:] or USUAL)]
    return int(not all(is_within))


if __name__ == "__main__":
    sys.exit(main())
