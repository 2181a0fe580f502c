"""Programs that tests use and a machine may lack: where each is, and what installs it (`packages.toml`)."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

PACKAGES = tomllib.loads(Path(__file__).with_name("packages.toml").read_text(encoding="utf-8"))
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Debian's ordinary users do not have servers in theirs."""


def program(command: str) -> str | None:
    """Path of a command; None where it is not installed."""
    return shutil.which(command, path=PATH)


def reason(command: str) -> str:
    """What is missing, and the line that installs it."""
    return f"no {command} here: apt-get install {' '.join(PACKAGES[command]['packages'])}"


def needs(command: str) -> pytest.MarkDecorator:
    """Skip a test where the command is missing."""
    return pytest.mark.skipif(program(command) is None, reason=reason(command))


def require(command: str) -> str:
    """Path of a command; skips the test where it is missing."""
    return program(command) or pytest.skip(reason(command))
