"""The whole product on servers and links of its own, each of which a test may harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote, urlsplit

from psycopg2.extensions import parse_dsn

from tests.chaos.harness import Fleet, OwnServer, own_postgres, own_redis
from tests.fakes.model_server import ModelServer, Script
from tests.fakes.tcp_proxy import Proxy
from tests.support.waiting import eventually

POSTGRES_SOCKET = ".s.PGSQL.5432"
REDIS_SOCKET = "redis.sock"


class Stack:
    """An API, workers, PostgreSQL and Redis.

    Attributes:
        postgres, redis: the servers.
        postgres_link, redis_link: the ways to them.
        fleet: the workers.
        api: the API that is asked at the moment.
    """

    def __init__(
        self, postgres: OwnServer, postgres_link: Proxy, redis: OwnServer, redis_link: Proxy, fleet: Fleet
    ) -> None:
        self.postgres = postgres
        self.postgres_link = postgres_link
        self.redis = redis
        self.redis_link = redis_link
        self.fleet = fleet
        self.api = fleet.start_api()

    def replace_api(self) -> None:
        """Start another API."""
        self.api = self.fleet.start_api()


@contextmanager
def running_stack(
    folder: Path, script: Script, *, workers: int = 2, threads: int, poll_ms: int = 500, far: bool = False
) -> Iterator[Stack]:
    """Start everything; return when readiness is green.

    Args:
        folder: where the output goes.
        script: what the model's server does.
        far: whether the database is reached through its link. That costs the test's process time.
    """
    with (
        TemporaryDirectory(prefix="vm-links-") as links,
        own_postgres() as postgres,
        own_redis() as redis,
        ModelServer(script) as model,
        _link_to_postgres(postgres, links) as postgres_link,
        _link_to_redis(redis, links) as redis_link,
        Fleet(
            folder,
            _through(postgres, links) if far else postgres.url,
            f"unix://{quote(str(Path(links) / REDIS_SOCKET))}?db=0",
            model,
        ) as fleet,
    ):
        fleet.start(workers, threads=threads, poll_ms=poll_ms)
        stack = Stack(postgres, postgres_link, redis, redis_link, fleet)
        eventually(lambda: stack.api.says_redis_is("ok"), "ready", seconds=40)
        yield stack


def _link_to_postgres(server: OwnServer, links: str) -> Proxy:
    return Proxy(Path(links) / POSTGRES_SOCKET, Path(parse_dsn(server.url)["host"]) / POSTGRES_SOCKET)


def _link_to_redis(server: OwnServer, links: str) -> Proxy:
    return Proxy(Path(links) / REDIS_SOCKET, Path(unquote(urlsplit(server.url).path)))


def _through(server: OwnServer, links: str) -> str:
    return server.url.replace(quote(parse_dsn(server.url)["host"], safe=""), quote(links, safe=""))
