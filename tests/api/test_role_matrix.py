"""The role matrix: every operation is tried over HTTP by every kind of caller.

What is expected follows from the declarations: the operations of ``ROUTES``, with the role of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from api.operations.operation import Operation
from api.routes.table import ROUTES
from tests.api.client import Api
from tests.api.conftest import TOKEN
from tests.api.permitted_requests import PREPARED
from tests.api.test_keys import bearer
from tests.docs.blocks import check_block
from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.access.roles import ROLES, Role, includes
from vm_webapp.db.pool import execute, transaction

# What is written about a request whether it is refused or not.
NOTED = ("audit", "rate", "sign_in", "refus")
TABLES = "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
CONTENT = """
SELECT md5(string_agg((to_jsonb(t) - 'last_used_at' - 'last_seen_at')::text, ',' ORDER BY to_jsonb(t)::text)) AS digest
  FROM "{}" t
"""


def _key_of(role: Role) -> Callable[[], str]:
    return lambda: create_key(role, role=role, actor=OPERATOR).secret


def _revoked() -> str:
    secret = create_key("revoked", role="admin", actor=OPERATOR).secret
    revoke_key("revoked", actor=OPERATOR)
    return secret


def _expired() -> str:
    secret = create_key("expired", role="admin", lasts=timedelta(days=1), actor=OPERATOR).secret
    with transaction():
        execute("UPDATE api_keys SET created_at = now() - interval '2 days', expires_at = now() - interval '1 second'")
    return secret


# Who calls: what is sent as the bearer, and the role that it has.
CALLERS: dict[str, tuple[Callable[[], str], Role | None]] = {
    "nobody": (str, None),
    "an unknown token": (lambda: "a-token-that-nobody-made", None),
    "an unknown key": (lambda: f"vmk_{'A' * 43}", None),
    "a revoked key": (_revoked, None),
    "an expired key": (_expired, None),
    **{f"the key of a {role}": (_key_of(role), role) for role in ROLES},
    "a key without a role": (lambda: create_key("old", actor=OPERATOR).secret, "admin"),
    "VM_API_TOKEN": (lambda: TOKEN, "admin"),
}


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
    assert PREPARED.keys() == {operation.name for operation in ROUTES}


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_operation_admits_and_refuses_whom_it_says(managed: Api, caller: str) -> None:
    make, role = CALLERS[caller]
    headers = bearer(secret) if (secret := await asyncio.to_thread(make)) else {}
    for operation in ROUTES:
        prepared = await asyncio.to_thread(PREPARED[operation.name])
        before = await asyncio.to_thread(content)
        response = await managed.request(
            operation.method, prepared.path(operation), json=prepared.body, headers=headers | prepared.headers
        )
        status = expected(operation, role)
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
    return {name: read(CONTENT.format(name))[0]["digest"] for name in names}
