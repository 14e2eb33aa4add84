"""Renders and checks templates, each where it cannot hang this process: plain ones here, any other one in a process of
its own that has little time and memory.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import TemplateSyntaxError

from vm_webapp.workflows.environment import compiled, environment
from vm_webapp.workflows.faults import Fault, Names, find_fault
from vm_webapp.workflows.limited import TOO_LARGE, TOO_SLOW, Request, receive, send
from vm_webapp.workflows.plain import is_plain
from vm_webapp.workflows.sources import read_text

BUNDLED = Path(__file__).parent / "bundled"


def check_source(source: str, names: Names, samples: Sequence[Mapping[str, Any]]) -> None:
    """Raise the first error of a template.

    Args:
        source: the template's text.
        names: what it may name.
        samples: values of its variables with which it must render.

    Raises:
        Fault: the template has an error, or rendering it takes too much time or memory.
    """
    if _is_harmless(source):
        find_fault(source, names, samples)
    else:
        _elsewhere.respond(Request(source, _portable(samples), names))


def render_source(source: str, variables: Mapping[str, Any]) -> str:
    """Return the text of a template.

    Raises:
        Exception: it cannot be rendered with these values; an expression in a template may raise anything.
    """
    if _is_text(source):
        return source
    if _is_harmless(source):
        return compiled(source).render(variables)
    try:
        return _elsewhere.respond(Request(source, _portable([variables])))
    except Fault as fault:
        raise ValueError(fault.what) from None


def close_renderer() -> None:
    """End the process that renders templates, if there is one; the next template that needs one starts another."""
    _elsewhere.close()


@lru_cache(maxsize=512)
def _is_text(source: str) -> bool:
    """Return whether a template renders to itself, as most stages' prompts do."""
    return not any(mark in source for mark in ("{{", "{%", "{#", "\r"))  # Jinja turns \r\n into \n


@lru_cache(maxsize=512)
def _is_harmless(source: str) -> bool:
    if source in _bundled_sources():
        return True
    try:
        return is_plain(environment.parse(source))
    except (TemplateSyntaxError, RecursionError):
        return True  # it will not be compiled


@cache
def _bundled_sources() -> frozenset[str]:
    return frozenset(read_text(path, path.name) for path in BUNDLED.rglob("*.md"))


class _Renderer:
    """The process that renders; started when it is first needed and after each end. Threads use it one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def respond(self, request: Request) -> str:
        """Send a request and return the text of the response.

        Raises:
            Fault: the template cannot be rendered.
        """
        with self._lock:
            message = self._exchange(pickle.dumps(request))
        response = json.loads(message)
        if "error" in response:
            raise Fault(response["line"], response["error"])
        return str(response["text"])

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _exchange(self, request: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            send(process.stdin, request)
        response = receive(process.stdout)
        if response is not None:
            return response
        raise Fault(1, _cause_of_death(self._end()))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        # Without our environment: a template has no business with keys and URLs. In a session of its own it does not
        # get the terminal's Ctrl-C; it ends when its input does, with this process.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from vm_webapp.workflows.limited import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C.UTF-8"},
        )
        return self._process

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()  # not if it has ended by itself: its exit code says why
        with suppress(BrokenPipeError), process:  # closes the pipes, and waits
            pass
        return process.wait()


def _cause_of_death(code: int) -> str:
    if code == -signal.SIGXCPU:
        return TOO_SLOW
    if code == -signal.SIGKILL:  # most likely the kernel's, for want of memory
        return TOO_LARGE
    return f"rendering it ended the process that renders (exit code {code})"


def _portable(value: Any) -> Any:
    """Return a value with namespaces for dataclasses, whose modules the process that renders does not load."""
    if is_dataclass(value) and not isinstance(value, type):
        return SimpleNamespace(**{field.name: _portable(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, Mapping):
        return {key: _portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_portable(item) for item in value)
    return value


_elsewhere = _Renderer()
atexit.register(close_renderer)
