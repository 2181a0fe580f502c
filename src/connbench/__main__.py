"""The `connbench` command, and `python -m connbench`. It handles signals before it imports anything else."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of `signal`, which needs no file to be read
import os
import sys

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Python's handler would print a traceback of these imports


def main() -> None:
    """Entry point of the command; ends the process."""
    try:
        from connbench.interrupts import Interrupts  # noqa: PLC0415  # an import may fail, and the user needs a message

        interrupts = Interrupts()
        interrupts.install()
        from connbench import commands as cli  # noqa: PLC0415  # takes 30 ms, and a signal in that time must be handled
    except Exception as error:  # noqa: BLE001  # Python would exit with 1, which means that a --fail-if is true
        sys.exit(_report(error))
    cli.main(interrupts=interrupts)


def _report(error: Exception) -> int:
    """Print why connbench cannot be loaded; the exit code. It needs as few imports as possible: they may fail, too."""
    try:
        from connbench.errors import is_debugging  # noqa: PLC0415  # this import may fail, too

        if "--debug" in sys.argv or is_debugging():  # --debug, which sets the variable, has not been read yet
            import traceback  # noqa: PLC0415  # only an error needs it

            traceback.print_exception(error)
        from connbench.linux.faults import fault_of  # noqa: PLC0415  # this import may fail, too

        fault = fault_of(error)
        message, hint, code = fault.message, fault.hint, int(fault.exit_code)
    except Exception as further:  # noqa: BLE001  # as above: whatever it is, there is a message
        message = f"it cannot be loaded: {type(further).__name__}"
        hint = "raise the limits of memory and open files (ulimit -v, ulimit -d, ulimit -n), or install connbench again"
        code = 4
    try:  # noqa: SIM105  # contextlib may not load
        os.write(2, f"connbench: {message}\n  -> {hint}\n".encode())
    except OSError:
        pass  # stderr is closed
    return code


if __name__ == "__main__":
    main()
