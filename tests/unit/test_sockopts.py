"""The bytes of socket options."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.linux.sockopts import LINGER_RESET, ON, pack_timeout, pack_u32
from connbench.model import MAX_PORT, port_range_value
from factories import unhurried

PORT = st.integers(0, MAX_PORT)


@given(PORT, PORT)
@unhurried
def test_port_range_is_the_high_port_above_the_low_one(low: int, high: int) -> None:
    """IP_LOCAL_PORT_RANGE takes one u32 in the machine's byte order: the low port in its lower half."""
    packed = pack_u32(port_range_value(low, high))
    assert packed == (low + high * 65536).to_bytes(4, sys.byteorder)


def test_port_range_of_the_talk() -> None:
    """9024-65535 is ffff2340 in hexadecimal."""
    assert port_range_value(9024, 65535) == 0xFFFF2340


@given(st.floats(1e-9, 86400))
@unhurried
def test_timeout_is_seconds_and_microseconds(seconds: float) -> None:
    """A time-out is within a microsecond of the asked-for one, a valid timeval, and never 0, which means none."""
    whole, microseconds = struct.unpack("@ll", pack_timeout(seconds))
    assert 0 <= microseconds < 1_000_000
    assert whole + microseconds / 1e6 == pytest.approx(seconds, abs=1.01e-6)
    assert whole + microseconds > 0


@pytest.mark.parametrize(("seconds", "expected"), [(5.0, (5, 0)), (0.5, (0, 500_000)), (1.25, (1, 250_000))])
def test_timeout_of_a_round_number_is_exact(seconds: float, expected: tuple[int, int]) -> None:
    """Time-outs that a float can hold are packed exactly."""
    assert struct.unpack("@ll", pack_timeout(seconds)) == expected


def test_switches_are_native_integers() -> None:
    """A switched-on option takes the int 1; a reset on close() takes lingering on, for 0 s."""
    assert struct.unpack("@i", ON) == (1,)
    assert struct.unpack("@ii", LINGER_RESET) == (1, 0)
