"""The commands that a guest runs: one of connbench, or the tests of the kernel's rules."""

from __future__ import annotations

import sys

from connbench.planner.planner import choose_loop

from .image import LAB
from .kernel import Kernel
from .table import RESULT

QUICK = ("run", "--port-range", "9024-13119", "--strategy", "plain", "--strategy", "bind")
QUICK_WITH_OPTION = ("--strategy", "window", "--window", "36", "--strategy", "range")
"""The range and the rows of `reproduce --quick` that tell kernels apart: its thirteen rows take a minute a kernel."""

RULES = (
    "-v",
    "-k",
    f"[{choose_loop(None)} and not same_seed and not acquiring",
    "tests/netns/test_port_search.py",
    *(
        f"tests/netns/test_{name}"
        for name in (
            "named_ports.py::test_a_stride_leaves_every_fourth_port",
            "named_ports.py::test_bind_takes_its_port_for_every_target",
            "named_ports.py::test_bind_has_no_halves_below_four_ports",
            "named_ports.py::test_only_reuse_of_addresses_halves_the_range",
            "named_ports.py::test_a_port_is_shared_among_targets_and_taken_once_by_each",
            "one_port.py::test_the_second_connection_fails",
        )
    ),
)
"""What may differ from kernel to kernel, with one loop: both make the same calls, and a test takes an emulated kernel
three or four seconds. -v names the test in which a guest hangs."""

WALK_VARIABLE = "CONNBENCH_EXPECT_WALK"
"""Tells the tests which walk they must see; without it they take an old kernel's as it comes."""

TRACE_TESTS = (
    "-q",
    "-m",
    "slow",
    *(f"tests/netns/test_{name}.py" for name in ("checks_counted", "next_connect", "trace_of_many", "trace_counts")),
)
"""In this order: the last test of the last locks its kernel down."""

TRACE_VARIABLE = "CONNBENCH_EXPECT_TRACE"
"""Tells the tests of tracing that it must work here; without it they are skipped where it does not."""

MEASURING = {"run", "reproduce"}
SEED = "1"


def to_measure(kernel: Kernel, arguments: tuple[str, ...], *, deterministic: bool) -> tuple[str, ...]:
    """The connbench command of a guest, the quick one unless told; its result goes where it is handed back from."""
    arguments = arguments or QUICK + (QUICK_WITH_OPTION if kernel.has_port_range else ())
    command = [sys.executable, "-m", "connbench", *arguments]
    if arguments[0] in MEASURING:
        command += ["-q", "-o", f"/{LAB}/results/{RESULT}"]
        if deterministic and not any(a.startswith("--seed") for a in arguments):
            command += ["--seed", SEED]
    return tuple(command)


def to_test(kernel: Kernel, arguments: tuple[str, ...], *, is_tracing: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The pytest command of a guest, and the variables by which the tests know what must hold there."""
    rules = TRACE_TESTS if is_tracing else RULES
    expected = (f"{WALK_VARIABLE}={kernel.walk}", *((f"{TRACE_VARIABLE}=1",) if is_tracing else ()))
    return (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or rules)), expected
