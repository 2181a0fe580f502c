"""Debian's kernels, looked up by series in a package index of the lab's own, and kept in the cache folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from connbench.errors import EnvironmentFault, UsageError

from .kernel import UML, Kernel, read_own

SERIES = (UML, "5.10", "6.1", "6.12", "6.18", "7")
"""What is booted unless others are named: every era of the port search, and the quick one first."""

SUITES = "bullseye bookworm bookworm-backports trixie trixie-backports sid"
SECURITY_SUITES = "bullseye-security bookworm-security trixie-security"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"}
"""What the lab runs, and the Debian packages it comes in."""

UML_TOOLS = {"linux.uml": "user-mode-linux"}
"""The same for user-mode-linux alone."""

TRACER = {"bpftrace": "bpftrace"}
"""What tests of tracing run in a guest, with the libraries it has here."""

_SERIES = re.compile(r"\d+(\.\d+)?")
_PACKAGE = re.compile(r"linux-image-(\d[\w.+~]*(-\d[\w.]*)?)-amd64")
_FEWEST_BYTES = 1_000_000  # a smaller package names others that hold the kernel


def cache_folder() -> Path:
    """Where kernels are kept: below $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "connbench-kernels"


def check_series(series: str) -> str:
    """A series as it can be looked up, or an image of one's own as NAME=FILE.

    Raises:
        UsageError: It is neither, or the image is none.
    """
    if "=" in series:
        read_own(series)
    elif series != UML and not _SERIES.fullmatch(series):
        raise UsageError(f"--kernel {series!r} is no series of kernels", f"for example {', '.join(SERIES)}")
    return series


def installed(series: str) -> Kernel | None:
    """The kernel of a series as it is here, or one's own; None where it has to be fetched."""
    if "=" in series:
        return read_own(series)
    if series == UML:
        program = shutil.which("linux.uml")
        if program is None:
            return None
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        return Kernel(UML, said.strip(), Path(program))
    folder = cache_folder() / series
    version = folder / "version"
    if not version.exists():
        return None
    return Kernel(series, version.read_text(encoding="utf-8").strip(), folder / "vmlinuz")


def install_tools(series: tuple[str, ...], say: Callable[[str], None], more: Mapping[str, str] | None = None) -> None:
    """Install what the lab runs for these kernels, and `more`, and this machine lacks.

    Raises:
        EnvironmentFault: Something is missing, and cannot be installed.
    """
    tools = {**TOOLS, **(UML_TOOLS if UML in series else {}), **(more or {})}
    missing = {package for tool, package in tools.items() if shutil.which(tool) is None}
    if not missing:
        return
    names = " ".join(sorted(missing))
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise EnvironmentFault(f"not installed: {names}", f"as root: apt-get install {names}")
    say(f"installing {names}, which boot other kernels")
    # RUNLEVEL: the packages' services are not started, for nothing here needs them.
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update", "-qq"], quiet)
    _run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *sorted(missing)], quiet)


def fetch(series: tuple[str, ...], say: Callable[[str], None]) -> list[str]:
    """Fetch the newest kernel of each series that is not here yet; returns those that could not be had.

    Raises:
        EnvironmentFault: Debian's index of packages cannot be read.
    """
    wanted = [s for s in series if s != UML and installed(s) is None]
    if not wanted:
        return []
    if shutil.which("apt-get") is None or not Path(KEYRING).exists():
        raise EnvironmentFault("no apt-get and Debian keyring here", "fetch the kernels on a Debian machine")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="connbench-apt-") as folder:
        environment = _private_apt(Path(folder))
        say("reading Debian's lists of packages")
        _run(["apt-get", "update", "-qq"], environment)
        return [s for s in wanted if not _fetch_newest(s, Path(folder), environment, say)]


def _private_apt(folder: Path) -> dict[str, str]:
    """An apt of the lab's own: its lists know more releases than the machine's, which must never see them."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    mirror = os.environ.get("CONNBENCH_DEBIAN_MIRROR", "http://deb.debian.org").rstrip("/")
    sources = folder / "lab.sources"
    sources.write_text(
        "\n\n".join(
            f"Types: deb\nURIs: {mirror}/{archive}\nSuites: {suites}\nComponents: main\nArchitectures: amd64\n"
            f"Signed-By: {KEYRING}"
            for archive, suites in (("debian", SUITES), ("debian-security", SECURITY_SUITES))
        )
        + "\n",
        encoding="utf-8",
    )
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    config = folder / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()), encoding="utf-8")
    return os.environ | {"APT_CONFIG": str(config)}


def _fetch_newest(series: str, folder: Path, environment: dict[str, str], say: Callable[[str], None]) -> bool:
    """Fetch the newest kernel that the mirror still has: an index may name what is gone."""
    for version, package in _candidates(series, environment)[:4]:
        parts = _parts(package, environment)
        say(f"{series}: fetching {', '.join(parts)} {version}")
        downloads = Path(tempfile.mkdtemp(dir=folder))
        command = ["apt-get", "download", "-qq", *parts]
        got = subprocess.run(command, cwd=downloads, env=environment, capture_output=True, check=False)
        if got.returncode == 0 and _unpack(series, version, downloads):
            return True
    return False


def _candidates(series: str, environment: dict[str, str]) -> list[tuple[str, str]]:
    """Versions and packages of a series, the newest first; cloud and real-time kernels are other things."""
    names = _run(["apt-cache", "pkgnames", "linux-image-"], environment).split()
    matching = sorted(
        {name for name in names if _PACKAGE.fullmatch(name) and "-rt-" not in name and "cloud" not in name}
    )
    shown = _run(["apt-cache", "show", "--no-all-versions", *matching], environment)
    found = []
    for paragraph in shown.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"(Package|Version): ", line))
        if fields and fields["Version"].startswith((f"{series}.", f"{series}-")):
            found.append((fields["Version"], fields["Package"]))
    return sorted(found, key=lambda one: [int(n) for n in re.findall(r"\d+", one[0])], reverse=True)


def _parts(package: str, environment: dict[str, str]) -> list[str]:
    """The packages that hold a kernel: itself, or from 7.x on the linux-binary package it depends on."""
    shown = _run(["apt-cache", "show", "--no-all-versions", package], environment)
    size = re.search(r"^Size: (\d+)$", shown, re.MULTILINE)
    if size and int(size[1]) >= _FEWEST_BYTES:
        return [package]
    return re.findall(r"linux-binary-[\w.+~-]+", shown)[:1] or [package]


def _unpack(series: str, version: str, downloads: Path) -> bool:
    """Keep the image alone of the packages: connbench needs no module that is not built in."""
    for package in downloads.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(downloads)], dict(os.environ))
    images = [path for path in downloads.rglob("vmlinuz*") if path.is_file()]
    if not images:
        return False
    folder = cache_folder() / series
    folder.mkdir(exist_ok=True)
    shutil.copyfile(images[0], folder / "vmlinuz")
    (folder / "version").write_text(version + "\n", encoding="utf-8")
    return True


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise EnvironmentFault(f"{command[0]} {command[1]} failed: {last}", "see whether apt can reach the mirror")
    return done.stdout
