"""A deployment like the blueprint's: an API process and a worker process on existing servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from tests.support.processes import Program, program

CLEAN = """
DELETE FROM runs;
DELETE FROM idempotency_keys;
DELETE FROM api_keys;
DELETE FROM providers;
DELETE FROM rate_windows;
UPDATE queues SET paused_at = NULL, paused_by = NULL, reason = NULL;
"""


@dataclass(frozen=True)
class Deployment:
    """A running deployment.

    Attributes:
        env: the environment of its services; commands of an operator run with the same.
        url: the API's URL.
    """

    env: Mapping[str, str]
    url: str
    api: Program
    worker: Program


def managed_environment(database_url: str, redis_url: str, folder: Path, **further: str) -> dict[str, str]:
    """Return the environment of every service, without an API token or a model key."""
    return {
        "APP_ENV": "production",
        "VM_ENABLE_MANAGED_MODE": "true",
        "VM_DB_URL": database_url,
        "VM_REDIS_URL": redis_url,
        "VM_WORKSPACE_ROOT": str(folder / "workspace"),
        **further,
    }


@contextmanager
def deployment(env: Mapping[str, str], folder: Path, *, port: int = 0) -> Iterator[Deployment]:
    """Run an API and a worker during the block. They may not be ready when it begins."""
    with ExitStack() as stack:
        api = stack.enter_context(program("serve", "--port", str(port), env=env, folder=folder / "api"))
        worker = stack.enter_context(program("worker", "--poll-interval-ms", "100", env=env, folder=folder / "worker"))
        yield Deployment(env, address_of(api), api, worker)


def address_of(api: Program) -> str:
    """Wait until an API prints its URL; return it."""
    api.says("API ", seconds=30)
    found = re.search(r"API\s+(http://\S+)", api.output())
    assert found is not None, api.output()
    return found[1]


def clean(database_url: str) -> None:
    """Delete all runs, keys and pauses; the deployment keeps running."""
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute(CLEAN)
        session.commit()
