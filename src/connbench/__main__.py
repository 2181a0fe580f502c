"""The `connbench` command, and `python -m connbench`: signals are handled before anything else is imported."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` is made of; it has no file to be read

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Python's handler would print a traceback of what is imported here

from connbench.interrupts import Interrupts


def main() -> None:
    """Entry point of the command; ends the process."""
    interrupts = Interrupts()
    interrupts.install()
    from connbench import cli  # noqa: PLC0415  # takes 30 ms, in which a signal is to be noted already

    cli.main(interrupts=interrupts)


if __name__ == "__main__":
    main()
