"""Starts a program, or says what is missing to start it. Takes nothing but the standard library of any Python 3."""

import importlib
import signal
import sys
from typing import NoReturn

NEEDED = (3, 11)


def start(module: str) -> NoReturn:
    """Run `main` of this module. A Python that is too old, or packages that are not there, are told in words."""
    if sys.version_info < NEEDED:
        old = ".".join(map(str, sys.version_info[:3]))
        _give_up(f"this is Python {old}, and {NEEDED[0]}.{NEEDED[1]} or later is needed")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C while modules are being loaded: nothing has begun, and nobody wants to see where we were.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        program = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "zabzmq":
            raise
        _give_up(f"the package {error.name} is missing in this Python ({sys.executable})")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    program.main()
    raise AssertionError("main never returns")


def _give_up(why: str) -> NoReturn:
    hints = "make test (or make demo) sets everything up once; then: source .venv/bin/activate"
    sys.exit(f"error: {why}\n  {hints}")
