"""Faults of PostgreSQL, Redis and the API. Each lasts for a block, while a fleet runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager

import psycopg2
import redis

from tests.chaos.harness import OwnServer
from tests.chaos.stack import Stack
from tests.support.processes import child_pids, frozen

Fault = Callable[[Stack], AbstractContextManager[None]]

OUR_SESSIONS = "FROM pg_stat_activity WHERE application_name LIKE 'vm-webapp%'"
# Without the pulse, whose own connection renews the leases.
POOLED_SESSIONS = "FROM pg_stat_activity WHERE application_name ~ '^vm-webapp (worker|api)'"
# In each direction. A transaction takes about ten round trips, and a hint's time-out is a tenth of a second.
POSTGRES_SLOW_SECONDS = 0.15
REDIS_SLOW_SECONDS = 0.3


@contextmanager
def postgres_restarted(stack: Stack) -> Iterator[None]:
    """PostgreSQL is restarted before the block begins."""
    stack.postgres.stop()
    stack.postgres.start()
    yield


@contextmanager
def postgres_stopped(stack: Stack) -> Iterator[None]:
    """PostgreSQL is stopped, so connections are refused."""
    stack.postgres.stop()
    try:
        yield
    finally:
        stack.postgres.start()


@contextmanager
def postgres_hanging(stack: Stack) -> Iterator[None]:
    """PostgreSQL hangs: connections stay open, the kernel accepts new ones, and nothing responds."""
    server = stack.postgres.pid()
    with frozen([server, *child_pids(server)]):
        yield


@contextmanager
def sessions_killed(stack: Stack) -> Iterator[None]:
    """Every session of the product is terminated, four times a second."""
    with session(stack.postgres) as admin:

        def kill() -> None:
            admin.execute(f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}")

        with meanwhile(kill, every=0.25):
            yield


@contextmanager
def sessions_taken(stack: Stack) -> Iterator[None]:
    """Another client holds every session that the server allows."""
    with session(stack.postgres) as admin, ExitStack() as taken:

        def take() -> None:
            try:
                taken.enter_context(closing(psycopg2.connect(stack.postgres.url, application_name="greedy")))
            except psycopg2.OperationalError:
                admin.execute(f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}")
                time.sleep(0.05)

        with meanwhile(take, every=0.01):
            yield


@contextmanager
def pools_frozen(stack: Stack) -> Iterator[None]:
    """The server processes of all pooled connections hang, with their locks; new connections work."""
    with session(stack.postgres) as admin:
        admin.execute(f"SELECT pid {POOLED_SESSIONS}")
        pids = [pid for (pid,) in admin.fetchall()]
    assert pids
    with frozen(pids):
        yield


@contextmanager
def postgres_slow(stack: Stack) -> Iterator[None]:
    """Responses take so long that a pool's few connections do not suffice for its threads."""
    stack.postgres_link.delay(POSTGRES_SLOW_SECONDS)
    try:
        yield
    finally:
        stack.postgres_link.delay(0.0)


@contextmanager
def runs_locked(stack: Stack) -> Iterator[None]:
    """Another session locks the tables, so that every statement runs into its time-out."""
    with session(stack.postgres) as admin:
        admin.execute("BEGIN")
        admin.execute("LOCK TABLE runs, stages IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def redis_stopped(stack: Stack) -> Iterator[None]:
    """Redis is stopped, so connections are refused."""
    stack.redis_link.cut()
    stack.redis.stop()
    try:
        yield
    finally:
        stack.redis.start()
        stack.redis_link.restore()


@contextmanager
def redis_hanging(stack: Stack) -> Iterator[None]:
    """Redis accepts connections and never responds."""
    with frozen([stack.redis.pid()]):
        yield


@contextmanager
def redis_slow(stack: Stack) -> Iterator[None]:
    """Redis responds, but later than the time-out of a hint."""
    stack.redis_link.delay(REDIS_SLOW_SECONDS)
    try:
        yield
    finally:
        stack.redis_link.delay(0.0)


@contextmanager
def redis_read_only(stack: Stack) -> Iterator[None]:
    """Redis is a read-only replica whose primary is down."""
    with client_of(stack.redis) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def redis_full(stack: Stack) -> Iterator[None]:
    """Redis responds, but is out of memory and refuses writes."""
    with client_of(stack.redis) as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextmanager
def redis_flushed(stack: Stack) -> Iterator[None]:
    """Redis is flushed ten times a second."""
    with client_of(stack.redis) as client, meanwhile(client.flushall, every=0.1):
        yield


@contextmanager
def api_killed(stack: Stack) -> Iterator[None]:
    """The only API is killed, and replaced when the block ends."""
    stack.api.program.kill()
    try:
        yield
    finally:
        stack.replace_api()


@contextmanager
def meanwhile(do: Callable[[], object], *, every: float) -> Iterator[None]:
    """During the block, call a function again and again on another thread, with a pause of ``every`` seconds."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every):
            do()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def session(server: OwnServer) -> Iterator[psycopg2.extensions.cursor]:
    """Yield a cursor of a session that is not one of the product's."""
    with closing(psycopg2.connect(server.url, application_name="chaos")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def client_of(server: OwnServer) -> redis.Redis:
    """Return a Redis client of the test's own."""
    return redis.Redis.from_url(server.url, socket_timeout=5)
