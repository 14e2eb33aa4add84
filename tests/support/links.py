"""Proxies in front of PostgreSQL and Redis, which a test can cut, stall and slow down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote, urlsplit

from psycopg2.extensions import parse_dsn

from tests.fakes.tcp_proxy import Proxy

LINKS = "vm-link-"
POSTGRES_SOCKET = ".s.PGSQL.5432"


@contextmanager
def link_to_postgres(
    url: str, listener: Callable[[], Callable[[bytes], object]] | None = None
) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy for a PostgreSQL on a unix socket, and the URL that goes through the proxy. See ``Proxy``."""
    folder = parse_dsn(url)["host"]
    with (
        TemporaryDirectory(prefix=LINKS) as links,
        Proxy(Path(links) / POSTGRES_SOCKET, Path(folder) / POSTGRES_SOCKET, listener) as proxy,
    ):
        yield proxy, url.replace(quote(folder, safe=""), quote(links, safe=""))


@contextmanager
def link_to_redis(url: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy for a Redis on a unix socket, and the URL that goes through the proxy."""
    path = urlsplit(url).path
    with TemporaryDirectory(prefix=LINKS) as links:
        own = Path(links) / "redis.sock"
        with Proxy(own, Path(unquote(path))) as proxy:
            yield proxy, url.replace(path, quote(str(own)))
