"""The role matrix: every operation is tried over HTTP by every kind of caller.

What is expected follows from the declarations: the operations of ``ROUTES``, with the role of each.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from yarl import URL

from api.operations.operation import Operation
from api.routes.table import ROUTES
from tests.api.client import Api
from tests.api.conftest import TOKEN
from tests.api.permitted_requests import PREPARED, PREPARED_FOR, prepare, session_of
from tests.api.test_keys import bearer
from tests.docs.blocks import check_block
from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import ROLES, Role, includes
from vm_webapp.db.pool import execute, transaction

# What is written about a request whether it is refused or not.
NOTED = ("audit", "rate", "sign_in", "refus")
TABLES = "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
EXPIRE = """
UPDATE api_keys SET created_at = now() - interval '2 days', expires_at = now() - interval '1 second'
 WHERE secret_sha256 = %(digest)s
"""
CONTENT = """
SELECT '{0}' AS name,
       md5(string_agg((row - 'last_used_at' - 'last_seen_at')::text, ',' ORDER BY row::text)) AS digest
  FROM (SELECT to_jsonb(t) AS row FROM "{0}" t) rows
"""


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    Attributes:
        secret: makes a key, or whatever else is presented.
        role: its role, None if it has none because nobody knows it.
        in_session: whether a session is opened with it, and the session's cookie is sent.
        ended: whether that session has ended meanwhile.
    """

    secret: Callable[[], str]
    role: Role | None
    in_session: bool = False
    ended: Callable[[str], object] | None = None

    async def headers(self, api: Api, secret: str) -> dict[str, str]:
        """Return what is sent."""
        if not self.in_session:
            return bearer(secret) if secret else {}
        opened = await asyncio.to_thread(session_of, secret)
        assert opened is not None
        if self.ended is not None:
            await asyncio.to_thread(self.ended, secret)
        return {"Cookie": f"vm-{URL(api.base_url).port}={opened.secret}", "Sec-Fetch-Site": "same-origin"}


def _key_of(role: Role | None) -> Callable[[], str]:
    return lambda: create_key(uuid4().hex, role=role, actor=OPERATOR).secret


def _revoked() -> str:
    secret = _key_of("admin")()
    _revoke(secret)
    return secret


def _expired() -> str:
    secret = create_key(uuid4().hex, role="admin", lasts=timedelta(days=1), actor=OPERATOR).secret
    with transaction():
        execute(EXPIRE, digest=_digest(secret))
    return secret


def _revoke(secret: str) -> None:
    with transaction():
        execute("UPDATE api_keys SET revoked_at = now() WHERE secret_sha256 = %(digest)s", digest=_digest(secret))


def _end_sessions(secret: str) -> None:
    with transaction():
        execute("UPDATE sessions SET ended_at = now()")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


CALLERS: dict[str, Caller] = {
    "nobody": Caller(str, None),
    "an unknown token": Caller(lambda: "a-token-that-nobody-made", None),
    "an unknown key": Caller(lambda: f"vmk_{'A' * 43}", None),
    "a revoked key": Caller(_revoked, None),
    "an expired key": Caller(_expired, None),
    **{f"the key of a {role}": Caller(_key_of(role), role) for role in ROLES},
    "a key without a role": Caller(_key_of(None), "admin"),
    "VM_API_TOKEN": Caller(lambda: TOKEN, "admin"),
    **{f"the session of a {role}": Caller(_key_of(role), role, in_session=True) for role in ROLES},
    "the session of VM_API_TOKEN": Caller(lambda: TOKEN, "admin", in_session=True),
    "an ended session": Caller(_key_of("admin"), None, in_session=True, ended=_end_sessions),
    "the session of a revoked key": Caller(_key_of("admin"), None, in_session=True, ended=_revoke),
}


# A role decides alike for every kind of credential, so the others try a fifth of the operations, each another one.
ASKED_FOR_ALL = {"nobody", *(f"the key of a {role}" for role in ROLES)}
SAMPLED = 5


def _sample(caller: str) -> list[Operation]:
    """Return every fifth operation; the callers that are sampled begin at different ones, so all are tried."""
    sampled = [name for name in CALLERS if name not in ASKED_FOR_ALL]
    return list(ROUTES)[sampled.index(caller) % SAMPLED :: SAMPLED]


def expected(operation: Operation, role: Role | None) -> int:
    """Return the status that a caller with this role gets for a request that is right; None is nobody known."""
    if operation.role is None:
        return operation.status
    if role is None:
        return 401
    return operation.status if includes(role, operation.role) else 403


@pytest.fixture(autouse=True)
def many_wrong_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse an address only after more unknown keys than there are operations."""
    monkeypatch.setattr("api.auth.failed_attempts.MOST_FAILURES", 1000)


def test_there_is_a_request_for_every_operation() -> None:
    assert PREPARED.keys() | PREPARED_FOR.keys() == {operation.name for operation in ROUTES}


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_operation_admits_and_refuses_whom_it_says(managed: Api, caller: str, full: bool) -> None:
    who = CALLERS[caller]
    for operation in ROUTES if full or caller in ASKED_FOR_ALL else _sample(caller):
        secret = await asyncio.to_thread(who.secret)
        headers = await who.headers(managed, secret)
        prepared = await asyncio.to_thread(prepare, operation, secret)
        before = await asyncio.to_thread(content)
        response = await managed.request(
            operation.method, prepared.path(operation), json=prepared.body, headers=headers | prepared.headers
        )
        status = expected(operation, who.role)
        # Nothing is ready without a worker, for nobody.
        assert response.status in ((200, 503) if operation.name == "ready" else (status,)), (operation.name, response)
        if status in (401, 403):
            response.problem(status, "unauthorized" if status == 401 else "forbidden")
        if status in (401, 403) or operation.method == "GET":
            assert await asyncio.to_thread(content) == before, f"{operation.name} changed something"


def test_the_matrix_in_the_documentation_is_this_one(record: bool) -> None:
    names = ("nobody", *ROLES)
    rows = [
        f"| `{each.method} {each.path}` | {' | '.join(str(expected(each, role)) for role in (None, *ROLES))} |"
        for each in ROUTES
    ]
    header = f"| | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}"
    check_block("security.md", "roles", "\n".join([header, *rows]), anew=record)


def content() -> dict[str, str]:
    """Return a digest of each table, without what is noted about every request."""
    names = [row["name"] for row in read(TABLES) if not row["name"].startswith(NOTED)]
    return {row["name"]: row["digest"] for row in read(" UNION ALL ".join(map(CONTENT.format, names)))}
