"""A key has a role, and each operation needs one."""

from __future__ import annotations

import re

import pytest

from api.operations.operation import PREFIX
from api.routes.table import ROUTES
from tests.api.client import NEW_RUN, Api, written
from tests.api.conftest import TOKEN
from tests.api.test_keys import bearer
from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access.keys import could_be_key, create_key, find_key, is_mistyped, list_keys
from vm_webapp.access.roles import ROLES, includes
from vm_webapp.db.pool import execute, transaction


def test_each_role_may_do_what_the_ones_before_it_may() -> None:
    assert list(ROLES) == ["viewer", "editor", "operator", "admin"]
    for low, role in enumerate(ROLES):
        assert [includes(role, needed) for needed in ROLES] == [place <= low for place in range(len(ROLES))]


async def test_a_viewer_reads_and_changes_nothing(managed: Api) -> None:
    viewer = bearer(create_key("vic", role="viewer", actor=OPERATOR).secret)
    assert (await managed.get("/runs", headers=viewer)).status == 200
    before = written()
    refused = (await managed.post("/runs", NEW_RUN, headers=viewer)).problem(403, "forbidden")
    assert refused["detail"] == "this needs the role editor; the key has the role viewer"
    assert written() == before


async def test_the_role_is_checked_before_the_request_is_read(managed: Api) -> None:
    viewer = bearer(create_key("vic", role="viewer", actor=OPERATOR).secret)
    (await managed.post("/runs", {"nonsense": True}, headers=viewer)).problem(403, "forbidden")
    (await managed.post("/queue/pause", {}, headers=viewer)).problem(403, "forbidden")


async def test_a_refused_request_does_not_use_its_idempotency_key(managed: Api) -> None:
    secret = create_key("vic", role="viewer", actor=OPERATOR).secret
    headers = bearer(secret) | {"Idempotency-Key": "one"}
    (await managed.post("/runs", NEW_RUN, headers=headers)).problem(403, "forbidden")
    assert read("SELECT count(*) AS n FROM idempotency_keys")[0]["n"] == 0


async def test_a_key_without_a_role_and_the_token_are_an_admins(managed: Api) -> None:
    key = create_key("ops", actor=OPERATOR)
    assert (key.role, list_keys()[0].role) == ("admin", "admin")
    for secret in (key.secret, TOKEN):
        assert (await managed.post("/queue/pause", {}, headers=bearer(secret))).status == 200


def test_every_operation_but_the_probes_declares_its_role() -> None:
    assert {PREFIX + route.path for route in ROUTES if route.role is None} == {
        f"{PREFIX}/health/live",
        f"{PREFIX}/health/ready",
    }
    assert {route.role for route in ROUTES if route.method == "GET" and not route.public} <= {"viewer", "admin"}
    # A viewer changes nothing but where it is signed in itself.
    changing = {route.name for route in ROUTES if route.method != "GET" and route.role == "viewer"}
    assert changing == {"end_session", "end_own_sessions"}


async def test_the_description_names_the_role_of_each_operation(managed: Api) -> None:
    document = (await managed.get("/openapi.json", headers=bearer(TOKEN))).json()
    for route in ROUTES:
        described = document["paths"][PREFIX + route.path][route.method.lower()]
        schemes = [{"bearer": [route.role]}, {"session": [route.role]}]
        assert described["security"] == (schemes if route.role else [])


@pytest.mark.parametrize("role", [None, *ROLES])
def test_a_key_ends_with_a_checksum_of_the_rest(database: str, role: str | None) -> None:
    secret = create_key("ci", role=role, actor=OPERATOR).secret  # type: ignore[arg-type]
    assert re.fullmatch(r"vmk_[A-Za-z0-9_-]+", secret)
    assert len(secret) == (53 if role else 47)
    holder = find_key(secret)
    assert holder is not None
    assert holder.role == (role or "admin")


def test_a_mistyped_key_is_told_from_a_guess_without_a_query(database: str) -> None:
    secret = create_key("ci", role="viewer", actor=OPERATOR).secret
    assert not is_mistyped(secret)
    for place in (5, 20, len(secret) - 1):
        typed = secret[:place] + ("x" if secret[place] != "x" else "y") + secret[place + 1 :]
        assert is_mistyped(typed)
        assert not could_be_key(typed)
    # Keys of 43 characters from before there was a checksum may end in anything.
    assert not is_mistyped("vmk_" + "A" * 43)
    assert could_be_key("vmk_" + "A" * 43)


def test_a_key_that_lost_its_role_admits_nobody(database: str) -> None:
    # As after a rollback of the schema and its repetition.
    secret = create_key("vic", role="viewer", actor=OPERATOR).secret
    with transaction():
        execute("UPDATE api_keys SET role = NULL")
    assert find_key(secret) is None
