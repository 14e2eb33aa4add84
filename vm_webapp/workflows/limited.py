"""The process that renders templates which are not plain, under limits that the kernel enforces.

It reads requests from its standard input and writes a response to each to its standard output, until the input ends.
A request is pickled by the parent; a response is JSON, so that nothing a template does here reaches the parent as code.
Both are preceded by their length in bytes, as a big-endian integer of eight bytes.
"""

from __future__ import annotations

import json
import pickle
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vm_webapp.workflows.environment import compiled
from vm_webapp.workflows.faults import Fault, Names, find_fault, template_line

CPU_SECONDS = 1.0
MEMORY_MIB = 256
TOO_SLOW = f"rendering it takes more than {CPU_SECONDS:g} s of processor time"
TOO_LARGE = f"rendering it takes more than {MEMORY_MIB} MiB of memory"
LENGTH_BYTES = 8


class OutOfTime(Exception):
    """A request has used up its processor time."""


@dataclass(frozen=True, slots=True)
class Request:
    """A template, and what to do with it.

    Attributes:
        samples: values of its variables; a check renders all of them.
        names: for a check, what it may name; None to render the one sample and return the text.
    """

    source: str
    samples: Sequence[Mapping[str, Any]]
    names: Names | None = None


def receive(stream: IO[bytes]) -> bytes | None:
    """Return the next message of a stream, None at its end."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    message = stream.read(int.from_bytes(length, "big"))
    return message if len(message) == int.from_bytes(length, "big") else None


def send(stream: IO[bytes], message: bytes) -> None:
    """Write a message to a stream."""
    stream.write(len(message).to_bytes(LENGTH_BYTES, "big"))
    stream.write(message)
    stream.flush()


def main() -> None:
    """Respond to requests until the input ends."""
    _limit_memory()
    while (message := receive(sys.stdin.buffer)) is not None:
        request: Request = pickle.loads(message)  # noqa: S301 - the parent wrote it
        try:
            response = _response(request)
        except OutOfTime:  # the signal came when rendering had just ended
            response = {"error": TOO_SLOW, "line": 1}
        send(sys.stdout.buffer, json.dumps(response).encode())


def _response(request: Request) -> dict[str, Any]:
    clock = _Clock()
    try:
        with clock:
            if request.names is None:
                return {"text": compiled(request.source).render(request.samples[0])}
            find_fault(request.source, request.names, request.samples)
            return {"text": ""}
    except Fault as fault:
        what, line = fault.what, fault.line
    except MemoryError as error:
        what, line = TOO_LARGE, template_line(error)
    except Exception as error:  # an expression in a template may raise anything
        what, line = str(error) or type(error).__name__, template_line(error)
    # Jinja may fail on an exception that a signal raised, and raise another one.
    return {"error": TOO_SLOW if clock.is_over else what, "line": line}


class _Clock:
    """Raises ``OutOfTime`` in the block when the processor time of a request is used up.

    It counts the time of this process alone, so that a busy machine fails no template.
    """

    def __init__(self) -> None:
        self.is_over = False

    def __enter__(self) -> None:
        # The signal has no effect inside one long operation, such as a power. There the kernel's limit ends
        # the process; it counts whole seconds, from the start of the process.
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + int(CPU_SECONDS) + 2, resource.RLIM_INFINITY))
        signal.signal(signal.SIGPROF, self._end)
        # Repeated, in case something in a template catches the first exception.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS, CPU_SECONDS / 10)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _end(self, *_: object) -> None:
        self.is_over = True
        raise OutOfTime(TOO_SLOW)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What Python itself occupies comes on top. Elsewhere than on Linux, the size of the text is the only limit.
    if (statm := Path("/proc/self/statm")).exists():
        occupied = int(statm.read_text().split()[0]) * resource.getpagesize()
        most = occupied + MEMORY_MIB * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
