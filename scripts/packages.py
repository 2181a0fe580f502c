"""Installs the distribution's packages that the tests use (tests/packages.toml) and that this machine lacks.

As root it lists the packages with their purpose and installs them with apt-get; it neither starts nor enables their
services. Without root, without apt-get or with --list it only lists them. The exit code is 1 if apt-get failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "tests" / "packages.toml"
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
APT_GET = shutil.which("apt-get", path=PATH) or ""
POLICY = Path("/usr/sbin/policy-rc.d")
DENY = "#!/bin/sh\nexit 101  # services are not started while connbench's tests install packages\n"
"""Debian's packages run this before they start a service (invoke-rc.d(8)): 101 forbids it."""


def missing() -> dict[str, dict[str, Any]]:
    """The entries of the table whose command is not installed."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {command: entry for command, entry in table.items() if shutil.which(command, path=PATH) is None}


def tell(lacking: dict[str, dict[str, Any]]) -> None:
    """Print the packages with their purpose."""
    for entry in lacking.values():
        print(f"  {' '.join(entry['packages']):<16}  {entry['purpose']}", flush=True)


@contextmanager
def no_services() -> Iterator[None]:
    """Keep packages from starting services; afterwards restore the machine's own policy, if it has one."""
    own = POLICY.with_name("policy-rc.d.connbench-tests")
    had_one = POLICY.exists()
    if had_one:
        POLICY.rename(own)
    try:
        POLICY.write_text(DENY, encoding="ascii")
        POLICY.chmod(0o755)
        yield
    finally:
        if had_one:
            own.replace(POLICY)
        else:
            POLICY.unlink(missing_ok=True)


def disable(service: str) -> None:
    """Keep a service from starting at boot: remove the links of systemd and of System V."""
    for command, *arguments in (
        ("deb-systemd-helper", "disable", f"{service}.service"),
        ("update-rc.d", service, "disable"),
    ):
        if path := shutil.which(command, path=PATH):
            subprocess.run([path, *arguments], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def install(lacking: dict[str, dict[str, Any]]) -> int:
    """Install the packages; return the exit code of apt-get."""
    packages = [package for entry in lacking.values() for package in entry["packages"]]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_services():
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run([APT_GET, *command], check=False, env=environment)
            if done.returncode:
                break
    for entry in lacking.values():
        if "service" in entry:
            disable(entry["service"])
    return done.returncode


def main() -> int:
    """Install the packages, or list what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="install nothing")
    asked = parser.parse_args()
    lacking = missing()
    if not lacking:
        return 0
    if asked.list or os.geteuid() != 0 or not APT_GET:
        print("not installed, so that tests that need them are skipped (as root, `make packages` installs them):")
        tell(lacking)
        return 0
    print("installing packages of the distribution that the tests use (NO_INSTALL=1 leaves them out):")
    tell(lacking)
    if install(lacking):
        print("packages: apt-get failed; make test NO_INSTALL=1 goes on without them", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
