"""Ctrl-C ends a program with one line and exit code 130, from its first import on."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def end_at_once() -> None:
    """Let Ctrl-C end the process, if Python is about to run a program of this package.

    `sys.argv[0]` is "-m" until then. `end_during_imports` takes over when the program can handle
    `KeyboardInterrupt`.
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def end_during_imports() -> None:
    """Let Ctrl-C during an import end the process; elsewhere it raises `KeyboardInterrupt`.

    C extensions that are being imported turn the exception into another one, or lose it.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            if caller.f_code.co_filename.startswith("<frozen importlib"):
                _end(number, frame)
            caller = caller.f_back
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _end):
        signal.signal(signal.SIGINT, handle)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)
