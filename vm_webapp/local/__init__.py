"""The embedded PostgreSQL and Redis under the workspace root, shared by every process that uses that root.

Each process that uses the servers holds a shared lock on a file; the kernel releases it however the process ends.
Starting and stopping happen under a second, exclusive lock (the start lock), and the last process to leave stops both
servers. So there is no counter that SIGKILL could leave wrong, and nothing that could block the next start.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vm_webapp.errors import ConfigurationError
from vm_webapp.local.postgres import EmbeddedPostgres
from vm_webapp.local.redis import EmbeddedRedis, find_redis_server
from vm_webapp.local.users import Users, exclusive

__all__ = ["LocalServers", "find_redis_server", "start_local_servers"]

NO_REDIS = "no Redis server for this platform"
# A hint is the Redis message that says that a stage may be due.
WITHOUT_HINTS = "running without hints, work is found by polling"


class LocalServers:
    """One process's use of the running servers. As a context manager it calls ``close`` at the end.

    Attributes:
        database_url: URL of the database.
        redis_url: URL of Redis, None if there is none.
        notes: lines to print for the person who started the process.
    """

    def __init__(self, postgres: EmbeddedPostgres, redis: EmbeddedRedis | None, users: Users) -> None:
        self.database_url = postgres.url
        self.redis_url = redis.url if redis else None
        self.notes: tuple[str, ...] = () if redis else (f"{NO_REDIS}: {WITHOUT_HINTS}",)
        self._postgres = postgres
        self._redis = redis
        self._users = users

    def ensure_running(self) -> None:
        """Start the servers that are not running. The caller holds the start lock.

        Raises:
            ConfigurationError: PostgreSQL cannot be started. A Redis that cannot be started is only a note.
        """
        self._postgres.ensure_running()
        if self._redis:
            # Without Redis only latency suffers, so its failure does not end the start.
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
        """Stop using the servers; the last process to do so stops them. May be called again."""
        if not self._users.joined:
            return
        if self._users.displaced:
            # The folder was removed, and a new workspace may be in its place: its lock is not ours to take. Within a
            # minute PostgreSQL notices by itself that its data folder is gone, and ends; Redis does not.
            self._users.leave()
            if self._redis:
                self._redis.request_shutdown()
            return
        with exclusive(self._users.folder / "start.lock"):
            self.leave()

    def leave(self) -> None:
        """Do what ``close`` does, for a caller that already holds the start lock."""
        if self._users.leave():
            if self._redis:
                self._redis.stop()
            self._postgres.stop()


def start_local_servers(root: Path, *, durable: bool = True) -> LocalServers:
    """Start the servers of a workspace, or join them if they are running.

    Args:
        root: the workspace root; created when missing.
        durable: False trades safety on power loss for speed, for tests.

    Raises:
        ConfigurationError: the servers cannot run here; one line says why and what to do.
    """
    folder = root.resolve() / "servers"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_ours(folder)
        os.chmod(folder, 0o711)  # noqa: S103 - PostgreSQL's own user must pass through when we are root
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


def _require_ours(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{folder} is a link and must be a folder: remove it and start again")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{folder} belongs to another user: run as that user, or set VM_WORKSPACE_ROOT to another folder"
        )
