"""The whole product on servers and proxies of its own, all of which a test may break."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.harness import Api, Fleet, OwnServer, own_postgres, own_redis
from tests.fakes.model_server import ModelServer, Script
from tests.fakes.tcp_proxy import Proxy
from tests.support.links import link_to_postgres, link_to_redis
from tests.support.waiting import eventually


@dataclass
class Stack:
    """An API, workers, PostgreSQL and Redis.

    Attributes:
        postgres, redis: the servers.
        postgres_link, redis_link: the proxies in front of them.
        fleet: the workers.
        api: the current API.
    """

    postgres: OwnServer
    postgres_link: Proxy
    redis: OwnServer
    redis_link: Proxy
    fleet: Fleet
    api: Api

    def replace_api(self) -> None:
        """Start another API."""
        self.api = self.fleet.start_api()


@contextmanager
def running_stack(
    folder: Path,
    script: Script,
    *,
    workers: int = 2,
    threads: int,
    poll_ms: int = 500,
    far: bool = False,
    durable: bool = False,
    worker_env: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start everything, and yield the stack when the API is ready.

    Args:
        folder: for the output of the processes.
        script: decides the behaviour of the fake model server.
        far: whether to connect to PostgreSQL through its proxy, which costs CPU time of the test process.
        durable: whether PostgreSQL writes to the disk what it commits.
        worker_env: further environment variables of the workers.
    """
    with (
        own_postgres(durable=durable) as postgres,
        own_redis() as redis,
        link_to_postgres(postgres.url) as (postgres_link, far_url),
        link_to_redis(redis.url) as (redis_link, redis_url),
        ModelServer(script) as model,
        Fleet(folder, far_url if far else postgres.url, redis_url, model) as fleet,
    ):
        fleet.start(workers, threads=threads, poll_ms=poll_ms, **(worker_env or {}))
        stack = Stack(postgres, postgres_link, redis, redis_link, fleet, fleet.start_api())
        eventually(lambda: stack.api.says_redis_is("ok"), "ready", seconds=40)
        yield stack
