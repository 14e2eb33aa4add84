"""A request for each operation that succeeds if the caller may make it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from api.operations.operation import Operation
from tests.api.conftest import MANAGED
from tests.support.actors import OPERATOR
from tests.support.fleet import change
from tests.support.runs import create
from tests.support.work import claim_next, finish_next
from vm_webapp.access.keys import create_key
from vm_webapp.access.sessions import NewSession, SessionRules, open_session
from vm_webapp.context import brands, projects
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import Failure

DRAFT = "# A draft"
DRAFT_READ = {"artifact_sha256": hashlib.sha256(DRAFT.encode()).hexdigest()}
BROKEN = Failure("llm_bad_request", "HTTP 400", permanent=True)
NEW_RUN = {"workflow": "content_calendar", "request": "a calendar"}


@dataclass(frozen=True)
class Prepared:
    """A request that is ready to be sent.

    Attributes:
        fields: the values of the fields in the operation's path.
        body: JSON, None for no body.
    """

    fields: dict[str, str] = field(default_factory=dict)
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def path(self, operation: Operation) -> str:
        """Return the path below ``/api/v2``."""
        return operation.path.format(**self.fields)


def _queued_run() -> dict[str, str]:
    return {"run_id": str(create().run.id)}


def _completed_run() -> dict[str, str]:
    run_id = create().run.id
    finish_next(run_id)
    finish_next(run_id)
    return {"run_id": str(run_id)}


def _canceled_run() -> UUID:
    """Return a run that has ended, although the queue may be paused."""
    run_id = create().run.id
    lifecycle.cancel_run_if_open(run_id, actor=OPERATOR)
    return run_id


def _failed_run() -> dict[str, str]:
    run_id = create().run.id
    lifecycle.fail_attempt_if_held(claim_next(run_id), BROKEN, jitter=0)
    return {"run_id": str(run_id)}


def _drafted_run() -> dict[str, str]:
    run_id = create("landing_page").run.id
    finish_next(run_id, DRAFT)
    return {"run_id": str(run_id), "key": "message"}


def _brand() -> UUID:
    return brands.create({"name": "Molar"}, actor=OPERATOR).id


def _project() -> UUID:
    return projects.create({"name": "Spring", "brand_id": _brand()}, actor=OPERATOR).id


def _session_of(secret: str) -> Prepared:
    """Return the request that ends a session of whoever has this key; another's, where it is no valid one."""
    opened = session_of(secret) or session_of(create_key(uuid4().hex, actor=OPERATOR).secret)
    assert opened is not None
    return Prepared({"session_id": str(opened.id)})


def session_of(secret: str) -> NewSession | None:
    """Open a session for whoever has this key, without the limit of the sign-in page; None if it is no valid one."""
    return open_session(secret, SessionRules.of(MANAGED), address="127.0.0.1", user_agent="tests")


def _paused_provider() -> dict[str, str]:
    change(
        "INSERT INTO providers (name, paused_at) VALUES ('kimi', now())"
        " ON CONFLICT (name) DO UPDATE SET paused_at = now()"
    )
    return {"name": "kimi"}


FIRST_VERSION = {"If-Match": '"1"'}
MANY = {"status": "queued", "workflow": "content_calendar"}
PREPARED: dict[str, Callable[[], Prepared]] = {
    "live": Prepared,
    "ready": Prepared,
    "list_workflows": Prepared,
    "read_workflow": lambda: Prepared({"name": "plan_90d"}),
    "create_run": lambda: Prepared(body=NEW_RUN),
    "list_runs": Prepared,
    "read_run": lambda: Prepared(_queued_run()),
    "cancel_run": lambda: Prepared(_queued_run()),
    "retry_run": lambda: Prepared(_failed_run(), {}),
    "fork_run": lambda: Prepared(_completed_run(), {"from_stage": "calendar"}),
    "read_archive": lambda: Prepared(_completed_run()),
    "list_approvals": Prepared,
    "approve_stage": lambda: Prepared(_drafted_run(), DRAFT_READ),
    "request_changes": lambda: Prepared(_drafted_run(), DRAFT_READ | {"feedback": "shorter"}),
    "list_events": lambda: Prepared(_queued_run()),
    "list_artifacts": lambda: Prepared(_completed_run()),
    "read_artifact": lambda: Prepared(_completed_run() | {"stage": "calendar"}),
    "create_brand": lambda: Prepared(body={"name": "Molar"}),
    "list_brands": Prepared,
    "read_brand": lambda: Prepared({"brand_id": str(_brand())}),
    "change_brand": lambda: Prepared({"brand_id": str(_brand())}, {"name": "Incisor"}, FIRST_VERSION),
    "archive_brand": lambda: Prepared({"brand_id": str(_brand())}),
    "create_project": lambda: Prepared(body={"name": "Spring", "brand_id": str(_brand())}),
    "list_projects": Prepared,
    "read_project": lambda: Prepared({"project_id": str(_project())}),
    "change_project": lambda: Prepared({"project_id": str(_project())}, {"name": "Autumn"}, FIRST_VERSION),
    "archive_project": lambda: Prepared({"project_id": str(_project())}),
    "read_queue": Prepared,
    "pause_queue": lambda: Prepared(body={"reason": "a test"}),
    "resume_queue": Prepared,
    "cancel_runs": lambda: Prepared(_queued_run() and {}, MANY),
    "retry_runs": lambda: Prepared(_failed_run() and {}, MANY | {"status": "failed"}),
    "archive_runs": lambda: Prepared({}, {"run_ids": [str(_canceled_run())]}),
    "unarchive_runs": lambda: Prepared({}, {"run_ids": [str(_canceled_run())]}),
    "resume_provider": lambda: Prepared(_paused_provider()),
    "list_workers": Prepared,
    "read_usage_report": Prepared,
    "list_audit": Prepared,
    "list_sessions": Prepared,
    "end_own_sessions": Prepared,
    "read_description": Prepared,
    "read_first_page": Prepared,
    "read_page": lambda: Prepared({"page": "errors"}),
}
# What is one's own depends on who asks: these get the key of the caller.
PREPARED_FOR: dict[str, Callable[[str], Prepared]] = {"end_session": _session_of}


def prepare(operation: Operation, secret: str) -> Prepared:
    """Return a request of an operation that succeeds if whoever has this key may make it."""
    own = PREPARED_FOR.get(operation.name)
    return PREPARED[operation.name]() if own is None else own(secret)
