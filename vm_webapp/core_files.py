"""Core files: the memory of a process that crashed, and so every secret in it."""

from __future__ import annotations

import resource


def forbid_core_files() -> None:
    """Let this process, and those that it starts, write no core file when they crash."""
    # Only the soft limit: an operator may raise it for a running process (prlimit) to look into a crash.
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
