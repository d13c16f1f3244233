"""Pass standard error on, with one line in place of what JAX's runtime says as it aborts.

When a process is lost the runtime of the others writes some dozen lines of status and stack trace
and aborts, from a thread that no Python code can stop.
"""

import re
import sys

LOST = (
    "error: another process was lost or did not come, so this one ends: its own output says why; "
    "start all of them again with --resume"
)
NOISE = re.compile(
    rb"\[Gloo\]|[IW]\d{4} |E\d{4} .*preemption_sync_manager"
    rb"|Additional GRPC error information|:UNKNOWN:Error received from peer"
)
ABORTING = re.compile(rb"[EF]\d{4} .*(coordination_service|Terminating process because)")


def main() -> None:
    """Copy standard input to standard error until the process at its other end is gone."""
    for line in sys.stdin.buffer:
        lost = ABORTING.match(line) or line.startswith(LOST.encode())
        if lost:
            line = LOST.encode() + b"\n"
        if not NOISE.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        if lost:
            break
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
