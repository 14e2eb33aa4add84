"""A PostgreSQL and a Redis of our own under the workspace root, shared by every process that uses that root.

Each user holds a shared lock on a file for as long as it lives; the kernel drops it however the process ends. Starting
and stopping happen under a second, exclusive lock, and whoever leaves as the last one stops both servers. So nothing
has to be counted, and a process killed with SIGKILL leaves nothing behind that could block the next start.
"""

from __future__ import annotations

import os
from pathlib import Path

from vm_webapp.errors import ConfigurationError
from vm_webapp.local.postgres import EmbeddedPostgres
from vm_webapp.local.redis import EmbeddedRedis, find_redis_server
from vm_webapp.local.users import Users, exclusive

__all__ = ["LocalServers", "find_redis_server", "start_local_servers"]

NO_REDIS = "no Redis server for this platform"
WITHOUT_HINTS = "running without hints, work is found by polling"


class LocalServers:
    """The running servers, as one user of them sees them. A context manager; leaving it closes.

    Attributes:
        database_url: where the database is.
        redis_url: where Redis is, None where this platform has none.
        notes: lines for the person who started this.
    """

    def __init__(self, postgres: EmbeddedPostgres, redis: EmbeddedRedis | None, users: Users) -> None:
        self.database_url = postgres.url
        self.redis_url = redis.url if redis else None
        self.notes: tuple[str, ...] = () if redis else (f"{NO_REDIS}: {WITHOUT_HINTS}",)
        self._postgres = postgres
        self._redis = redis
        self._users = users

    def ensure_running(self) -> None:
        """Start what does not run. The caller holds the start lock.

        Raises:
            ConfigurationError: PostgreSQL cannot be started. Without Redis only latency suffers: that is a note.
        """
        self._postgres.ensure_running()
        if self._redis:
            try:
                self._redis.ensure_running()
            except ConfigurationError as error:
                self.redis_url = None
                self.notes = (f"{error}; {WITHOUT_HINTS}",)

    def __enter__(self) -> LocalServers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def postgres_pid(self) -> int | None:
        """Return the process id of the running PostgreSQL, or None."""
        return self._postgres.pid()

    def redis_pid(self) -> int | None:
        """Return the process id of the running Redis, or None."""
        return self._redis.pid() if self._redis else None

    def close(self) -> None:
        """Stop using the servers; the last user stops them. May be called again."""
        if not self._users.joined:
            return
        if self._users.displaced:
            # PostgreSQL finds out within a minute by itself and ends.
            self._users.leave()
            if self._redis:
                self._redis.ask_to_end()
            return
        with exclusive(self._users.folder / "start.lock"):
            self.leave()

    def leave(self) -> None:
        """Like ``close``, for a caller that holds the start lock already."""
        if self._users.leave():
            if self._redis:
                self._redis.stop()
            self._postgres.stop()


def start_local_servers(root: Path, *, durable: bool = True) -> LocalServers:
    """Start the servers of a workspace, or join those that run.

    Args:
        root: the workspace root; created when missing.
        durable: False trades safety on power loss for speed, for tests.

    Raises:
        ConfigurationError: they cannot run here; one line says why and what to do.
    """
    folder = root.resolve() / "servers"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 - PostgreSQL's own user must pass through when we are root
        with exclusive(folder / "start.lock"):
            postgres = EmbeddedPostgres(folder / "postgres", durable=durable)
            program = find_redis_server()
            redis = EmbeddedRedis(folder / "redis", program) if program else None
            servers = LocalServers(postgres, redis, Users(folder))
            try:
                servers.ensure_running()
            except BaseException:
                servers.leave()
                raise
            return servers
    except PermissionError as error:
        raise ConfigurationError(
            f"{error.filename or root} cannot be written: set VM_WORKSPACE_ROOT to a folder that can"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"the embedded servers cannot be started under {root}: {error.strerror}") from error
