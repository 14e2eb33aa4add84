"""A PostgreSQL and a Redis that ask for passwords, for a test that stops them and starts them again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import redis

from tests.support.waiting import eventually
from vm_webapp.local import LocalServers, start_local_servers
from vm_webapp.local.postgres import find_programs

OWNER, POOLED = "vm_owner", "vm_pooled"
REDIS_USER = "vm_hints"


class GuardedServers:
    """Servers with a role or user for each password.

    Attributes:
        owner_url: the URL of the role that owns the database.
        pooled_url: the URL of a role with its rights.
        redis_url: the URL of a Redis user.
    """

    def __init__(self, servers: LocalServers, *, owner: str, pooled: str, redis_password: str) -> None:
        assert servers.redis_url is not None, servers.notes
        self._servers = servers
        self._passwords = {OWNER: owner, POOLED: pooled}
        self._redis_password = redis_password
        self.admin_url, self._redis_admin_url = servers.database_url, servers.redis_url
        self.owner_url = self.database_url(OWNER, owner)
        self.pooled_url = self.database_url(POOLED, pooled)
        self.redis_url = self.redis_url_with(redis_password)

    def database_url(self, role: str, password: str) -> str:
        """Return the URL with which a role connects."""
        return self.admin_url.replace("postgres@", f"{role}:{password}@")

    def redis_url_with(self, password: str) -> str:
        """Return the URL of Redis with this password."""
        return self._redis_admin_url.replace("unix://", f"unix://{REDIS_USER}:{password}@")

    def ask_for_passwords(self) -> None:
        """Make the roles and the user, and let PostgreSQL ask for their passwords."""
        with closing(psycopg2.connect(self.admin_url)) as session, session.cursor() as cursor:
            session.autocommit = True
            cursor.execute("SHOW hba_file")
            (place,) = cursor.fetchone() or ("",)
            rules = Path(place)
            rules.write_text(f"local all {OWNER},{POOLED} scram-sha-256\n{rules.read_text()}")
            cursor.execute("SELECT pg_reload_conf()")
            for role, password in self._passwords.items():
                cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", [password])
            cursor.execute(f"GRANT {OWNER} TO {POOLED}")
            cursor.execute(f"ALTER DATABASE vm_webapp OWNER TO {OWNER}")
        self._make_redis_user()

    def stop_postgres(self) -> None:
        """Stop PostgreSQL, ending its sessions."""
        pid = self._servers.postgres_pid()
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        eventually(lambda: self._servers.postgres_pid() is None, "PostgreSQL stops")

    def stop_redis(self) -> None:
        """Stop Redis."""
        pid = self._servers.redis_pid()
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: self._servers.redis_pid() is None, "Redis stops")

    def start_again(self) -> None:
        """Start what was stopped."""
        eventually(self._started, "the servers start", every=0.2)
        self._make_redis_user()

    def _started(self) -> bool:
        self._servers.ensure_running()
        return self._servers.redis_pid() is not None

    def dump(self) -> bytes:
        """Return all tables of the database as text."""
        command = [str(find_programs() / "pg_dump"), "--inserts", "--dbname", self.admin_url]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def redis_content(self) -> bytes:
        """Return every key of Redis with its value, and the names of its clients."""
        with redis.Redis.from_url(self._redis_admin_url) as client:
            values = [b"%s=%s" % (key, client.dump(key) or b"") for key in client.scan_iter()]
            return b"\n".join([*values, str(client.client_list()).encode()])

    def _make_redis_user(self) -> None:
        with redis.Redis.from_url(self._redis_admin_url) as client:
            rights = ["reset", "on", f">{self._redis_password}", "~*", "&*", "+@all"]
            client.execute_command("ACL", "SETUSER", REDIS_USER, *rights)


@contextmanager
def guarded_servers(root: Path, *, owner: str, pooled: str, redis_password: str) -> Iterator[GuardedServers]:
    """Run servers in a folder during the block, which ask for these passwords."""
    with start_local_servers(root, durable=False) as servers:
        guarded = GuardedServers(servers, owner=owner, pooled=pooled, redis_password=redis_password)
        guarded.ask_for_passwords()
        yield guarded
