"""Why the queue does not move, in sentences that say what to do, from the verdict of readiness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vm_webapp.ops.queue_control import QueueStatus
from vm_webapp.text import plural


def why_nothing_moves(reasons: Iterable[str], dependencies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the causes that readiness knows: a lock, another database, the schema, no worker, a paused provider.

    Args:
        reasons: why work cannot progress.
        dependencies: the facts of each dependency; those for callers with credentials say more.
    """
    causes = list(reasons)
    note = dependencies.get("database", {}).get("note")
    if note:  # a lock for which only some work waits
        causes.append(str(note))
    if paused := paused_provider(dependencies):
        causes.append(paused)
    return causes


def paused_provider(dependencies: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which provider is paused, why, and the command that resumes it; empty if none is."""
    llm = dependencies.get("llm", {})
    if llm.get("status") != "paused":
        return ""
    name = llm.get("provider")
    reason = ", ".join(str(said) for said in (llm.get("reason"), llm.get("detail")) if said) or "no reason is known"
    until = "and tried again by itself" if llm.get("until") else "until an operator resumes it"
    return f"{name} is paused {until} ({reason}): python -m vm_webapp queue resume-provider {name}"


def why_full(status: QueueStatus) -> str:
    """Return that every slot is in use while more stages are due, and what would help; empty if that is not so."""
    if not status.due or status.in_flight < status.slots or not status.slots:
        return ""
    more = f"run {status.desired_workers} workers, or wait" if status.desired_workers > status.workers else "wait"
    return f"every slot of the {plural(status.workers, 'worker')} is in use: {more}"
