"""What stands around every page of the workspace: who looks at it, what needs that person, and what is out of order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from api.services import Services
from api.ui.places import ACCOUNT, BRAND_PAGES, DOCS, HOME, OPERATIONS, PROJECT_PAGES, REVIEWS, RUNS
from vm_webapp.access.actor import Actor
from vm_webapp.access.roles import Role, includes
from vm_webapp.ops.health import Health
from vm_webapp.runs import queries
from vm_webapp.runs.pauses import Pauses, read_pauses
from vm_webapp.text import isolated

NO_WORKER = "No worker is running. Runs are kept and go on as soon as an operator has started one."
WORKERS_STAND_STILL = "Workers run, but begin nothing. Runs are kept and go on once an operator has restarted them."
NAVIGATION: tuple[tuple[str, str, Role], ...] = (
    (HOME, "Home", "viewer"),
    (RUNS, "Runs", "viewer"),
    (REVIEWS, "Reviews", "viewer"),
    (BRAND_PAGES, "Brands", "viewer"),
    (PROJECT_PAGES, "Projects", "viewer"),
    (OPERATIONS, "Operations", "operator"),
    (DOCS, "API", "viewer"),
    (ACCOUNT, "Account", "viewer"),
)
"""Path and name of each entry, and the role from which on it is shown."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of one page.

    Attributes:
        actor: who looks at it.
        reviews: how many drafts wait that this person may decide about.
        notices: what is out of order, in sentences that say what would help.
    """

    actor: Actor
    reviews: int
    notices: tuple[str, ...]

    @property
    def may_edit(self) -> bool:
        """Whether this person may create runs and decide."""
        return includes(self.actor.role, "editor")

    @property
    def may_operate(self) -> bool:
        """Whether this person may pause, resume and act on many runs."""
        return includes(self.actor.role, "operator")

    @property
    def may_administer(self) -> bool:
        """Whether this person may see and change who may do what."""
        return includes(self.actor.role, "admin")

    @property
    def navigation(self) -> tuple[tuple[str, str], ...]:
        """Path and name of each page that this person may open."""
        return tuple((path, name) for path, name, role in NAVIGATION if includes(self.actor.role, role))


def read_frame(own: Services, actor: Actor) -> Frame:
    """Read the frame, inside the current transaction."""
    return Frame(actor, queries.count_approvals(actor), notices_of(read_pauses(), own.health.latest()))


def notices_of(pauses: Pauses, health: Health | None) -> tuple[str, ...]:
    """Return what is out of order.

    Args:
        pauses: the pauses in force.
        health: the last verdict of readiness, None if there is none yet.
    """
    return (*_of_pauses(pauses), *_of_health(health))


def _of_pauses(pauses: Pauses) -> Iterator[str]:
    if pauses.queue is not None:
        by = f" by {pauses.queue.by}" if pauses.queue.by else ""
        why = f" ({isolated(pauses.queue.reason)})" if pauses.queue.reason else ""
        yield f"The queue was paused{by}{why}. Runs wait until an operator resumes it."
    for name, pause in pauses.providers.items():
        said = pause.reason or pause.code
        why = f" ({isolated(said)})" if said else ""
        until = "It is tried again by itself." if pause.until else "Runs wait until an operator resumes it."
        yield f"The model's provider {name} is paused{why}. {until}"


def _of_health(health: Health | None) -> Iterator[str]:
    if health is None:  # nobody monitors it in this process, or there is no verdict yet
        return
    status = {name: facts["status"] for name, facts in health.dependencies.items()}
    if status["worker"] == "down":
        alive = health.dependencies["worker"].get("alive")
        yield WORKERS_STAND_STILL if alive else NO_WORKER
    if status["llm"] == "offline":
        yield (
            "Offline: no model is called, and documents are worksheets to fill in. Whoever runs this service sets"
            " KIMI_API_KEY to change that."
        )
    if status["llm"] == "not_configured":
        yield "No model is configured: stages that need one fail until an operator has set KIMI_API_KEY."
