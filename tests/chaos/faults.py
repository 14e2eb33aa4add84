"""What is done to PostgreSQL and Redis under a running fleet, for as long as a block lasts."""

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
# The pools' own: what renews leases has another connection.
POOLED_SESSIONS = "FROM pg_stat_activity WHERE application_name ~ '^vm-webapp (worker|api)'"
# Each way. A transaction is about ten answers, and a hint may take a tenth of a second.
POSTGRES_SLOW_SECONDS = 0.15
REDIS_SLOW_SECONDS = 0.3


@contextmanager
def postgres_restarted(stack: Stack) -> Iterator[None]:
    """It is stopped and started before the block begins."""
    stack.postgres.stop()
    stack.postgres.start()
    yield


@contextmanager
def postgres_stopped(stack: Stack) -> Iterator[None]:
    """Nobody listens."""
    stack.postgres.stop()
    try:
        yield
    finally:
        stack.postgres.start()


@contextmanager
def postgres_hanging(stack: Stack) -> Iterator[None]:
    """A black hole: every connection stays open, new ones are accepted, and nothing answers."""
    server = stack.postgres.pid()
    with frozen([server, *child_pids(server)]):
        yield


@contextmanager
def sessions_killed(stack: Stack) -> Iterator[None]:
    """Every session of the product is ended, four times a second."""
    with session(stack.postgres) as admin:

        def kill() -> None:
            admin.execute(f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}")

        with meanwhile(kill, every=0.25):
            yield


@contextmanager
def sessions_taken(stack: Stack) -> Iterator[None]:
    """Somebody else has every session that the server has."""
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
    """The processes that serve the pools of workers and APIs hang, whatever they hold; new ones are well."""
    with session(stack.postgres) as admin:
        admin.execute(f"SELECT pid {POOLED_SESSIONS}")
        pids = [pid for (pid,) in admin.fetchall()]
    assert pids
    with frozen(pids):
        yield


@contextmanager
def postgres_slow(stack: Stack) -> Iterator[None]:
    """Each answer takes so long that a pool's few connections are never enough for its threads."""
    stack.postgres_link.delay(POSTGRES_SLOW_SECONDS)
    try:
        yield
    finally:
        stack.postgres_link.delay(0.0)


@contextmanager
def runs_locked(stack: Stack) -> Iterator[None]:
    """Somebody holds the tables so that every statement waits until its time is over."""
    with session(stack.postgres) as admin:
        admin.execute("BEGIN")
        admin.execute("LOCK TABLE runs, stages IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def redis_stopped(stack: Stack) -> Iterator[None]:
    """Nobody listens."""
    stack.redis_link.cut()
    stack.redis.stop()
    try:
        yield
    finally:
        stack.redis.start()
        stack.redis_link.restore()


@contextmanager
def redis_hanging(stack: Stack) -> Iterator[None]:
    """It accepts connections and never answers."""
    with frozen([stack.redis.pid()]):
        yield


@contextmanager
def redis_slow(stack: Stack) -> Iterator[None]:
    """Each answer comes, and comes later than anybody waits for a hint."""
    stack.redis_link.delay(REDIS_SLOW_SECONDS)
    try:
        yield
    finally:
        stack.redis_link.delay(0.0)


@contextmanager
def redis_read_only(stack: Stack) -> Iterator[None]:
    """It was demoted, and its primary is away."""
    with client_of(stack.redis) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def redis_full(stack: Stack) -> Iterator[None]:
    """It answers, and takes nothing more."""
    with client_of(stack.redis) as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextmanager
def redis_flushed(stack: Stack) -> Iterator[None]:
    """Everything in it is thrown away, ten times a second."""
    with client_of(stack.redis) as client, meanwhile(client.flushall, every=0.1):
        yield


@contextmanager
def api_killed(stack: Stack) -> Iterator[None]:
    """The only API is ended with SIGKILL and another one takes its place when the block is over."""
    stack.api.program.kill()
    try:
        yield
    finally:
        stack.replace_api()


@contextmanager
def meanwhile(do: Callable[[], object], *, every: float) -> Iterator[None]:
    """Do something again and again on a thread of its own, with so many seconds between."""
    ended = threading.Event()

    def do_again_and_again() -> None:
        while not ended.wait(every):
            do()

    thread = threading.Thread(target=do_again_and_again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def session(server: OwnServer) -> Iterator[psycopg2.extensions.cursor]:
    """A session of an administrator's own."""
    with closing(psycopg2.connect(server.url, application_name="chaos")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def client_of(server: OwnServer) -> redis.Redis:
    """Return a client that is not one of the product's."""
    return redis.Redis.from_url(server.url, socket_timeout=5)
