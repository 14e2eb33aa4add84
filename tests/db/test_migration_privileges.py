"""A role that lacks a privilege: the line has the GRANT to type, and after it ``up`` works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.db.schemas import FURTHER, empty, further, later_build, run_sql
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, own_bundle

ROLE = "Lacks-rights"


@pytest.fixture
def poor_url(database_url: str) -> Iterator[str]:
    """The URL of the database for a role that may connect and nothing more."""
    run_sql(database_url, f'CREATE ROLE "{ROLE}" LOGIN')
    yield database_url.replace("postgres@", f"{ROLE}@")
    run_sql(database_url, f'REASSIGN OWNED BY "{ROLE}" TO postgres; DROP OWNED BY "{ROLE}"; DROP ROLE "{ROLE}"')


def grant_in(url: str, build: Bundle) -> str:
    """Return the statement that a refused ``up`` names."""
    with pytest.raises(migrate.MigrationFailed) as refused:
        migrate.apply_pending(url, bundle=build)
    assert "\n" not in str(refused.value)
    return str(refused.value).rpartition("as the owner or a superuser: ")[2]


@pytest.mark.parametrize("revoked", ["", "REVOKE USAGE ON SCHEMA public FROM PUBLIC"], ids=["create", "usage"])
def test_a_first_deploy_names_the_grant_on_the_schema(database_url: str, poor_url: str, revoked: str) -> None:
    run_sql(empty(database_url), f"GRANT USAGE ON SCHEMA public TO PUBLIC; {revoked}")
    grant = grant_in(poor_url, own_bundle())
    assert grant == f'GRANT USAGE, CREATE ON SCHEMA public TO "{ROLE}"'
    run_sql(database_url, grant)
    assert migrate.apply_pending(poor_url) == own_bundle().ids


def test_a_table_of_another_role_is_named_with_its_owner(database_url: str, poor_url: str) -> None:
    build = later_build(further(up="ALTER TABLE runs ADD COLUMN mood text;", down="SELECT 1;"))
    run_sql(database_url, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{ROLE}"')
    assert grant_in(poor_url, build) == f'GRANT postgres TO "{ROLE}"'


def test_a_table_that_may_not_be_read_is_named(database_url: str, poor_url: str) -> None:
    run_sql(database_url, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{ROLE}"; REVOKE ALL ON runs FROM "{ROLE}"')
    build = later_build(further(up="UPDATE runs SET status = status;", down="SELECT 1;"))
    grant = grant_in(poor_url, build)
    assert grant == f'GRANT ALL ON TABLE runs TO "{ROLE}"'
    run_sql(database_url, grant)
    assert migrate.apply_pending(poor_url, bundle=build) == (FURTHER,)
