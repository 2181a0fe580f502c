"""Sysctls that cannot be read, or hold what the kernel never writes: an error with a remedy, or left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbench.errors import EnvironmentFault
from connbench.linux import sysctl


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files by the names of sysctls, instead of /proc/sys."""
    monkeypatch.setattr(sysctl, "_path", tmp_path.joinpath)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "cannot be read: 'ascii' codec"),
        (b"", "is '' here, which is not a "),
        (b"many\n", "is 'many' here, which is not a "),
        (b"-4\n", "is '-4' here, which is not a "),
        (b"1 2 3\n", "is '1 2 3' here, which is not a "),
        (b"60999 32768\n", "is '60999 32768' here, which is not a "),
        (b"0 70000\n", "is '0 70000' here, which is not a "),
    ],
)
def test_what_is_no_value_is_an_error(content: bytes | None, said: str, folder: Path) -> None:
    """For a range and a number alike, with the file or the setting and its content."""
    for name, read in (
        (sysctl.PORT_RANGE, sysctl.read_port_range),
        (sysctl.SOMAXCONN, lambda: sysctl.number(sysctl.SOMAXCONN)),
    ):
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(EnvironmentFault) as refused:
            read()
        assert f"{name} {said}" in refused.value.message
        assert "/proc" in refused.value.hint


def test_values_as_the_kernel_writes_them(folder: Path) -> None:
    """A tab between the ends of a range, a line end after it."""
    (folder / sysctl.PORT_RANGE).write_text("32768\t60999\n", encoding="ascii")
    (folder / sysctl.SOMAXCONN).write_text("4096\n", encoding="ascii")
    assert sysctl.read_port_range() == (32768, 60999)
    assert sysctl.number(sysctl.SOMAXCONN) == 4096


def test_what_cannot_be_read_is_left_out(folder: Path) -> None:
    """Of all recorded settings: a missing file, a folder in its place, bytes that are no text."""
    (folder / sysctl.SOMAXCONN).write_text("4096\n", encoding="ascii")
    (folder / sysctl.SYN_BACKLOG).mkdir()
    (folder / sysctl.RESERVED_PORTS).write_bytes(b"\xff")
    assert sysctl.read_all() == {sysctl.SOMAXCONN: "4096"}
