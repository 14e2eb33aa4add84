"""No crash blocks the next start or loses committed data."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local.conftest import OtherProcess, ask, kill, lives
from tests.support.waiting import eventually
from vm_webapp.local import start_local_servers
from vm_webapp.local.account import servers_user
from vm_webapp.local.postgres import find_programs
from vm_webapp.local.sockets import clear_sockets, socket_folder
from vm_webapp.local.users import ServerLock

Other = Callable[..., OtherProcess]


@pytest.fixture
def stranger() -> Iterator[int]:
    """A living process of the user that PostgreSQL runs as, which is not PostgreSQL."""
    user = servers_user()
    process = subprocess.Popen(["sleep", "60"], user=user.pw_uid if user else None)
    yield process.pid
    process.kill()
    process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_user_killed_with_sigkill_leaves_servers_that_the_next_one_joins_and_stops(
    workspace: Path, other: Other
) -> None:
    killed = other()
    pids = killed.pids()
    killed.kill()
    with start_local_servers(workspace, durable=False) as servers:
        assert (str(servers.postgres_pid()), str(servers.redis_pid())) == pids
    assert not lives(workspace, "postgres")
    assert not lives(workspace, "redis")


def test_a_killed_postgres_is_started_again_with_its_data(workspace: Path) -> None:
    with start_local_servers(workspace, durable=True) as servers:
        ask(servers, "CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS number")
        killed = servers.postgres_pid()
        kill(killed)
        with start_local_servers(workspace, durable=True) as again:
            assert again.postgres_pid() not in (None, killed)
            assert again.database_url == servers.database_url
            assert ask(again, "SELECT number FROM kept") == [(7,)]


def test_a_killed_redis_is_started_again_at_the_same_address(workspace: Path) -> None:
    with start_local_servers(workspace, durable=False) as servers:
        killed = servers.redis_pid()
        if killed is None:
            pytest.skip("there is no Redis server for this platform")
        kill(killed)
        with start_local_servers(workspace, durable=False) as again:
            # Redis writes the file with its id after it has begun to listen.
            assert eventually(again.redis_pid, "its process id") != killed
            assert again.redis_url == servers.redis_url


def test_leftovers_that_name_an_unrelated_process_do_not_block_the_start(workspace: Path, stranger: int) -> None:
    user = servers_user()
    data = workspace / "servers" / "postgres"
    sockets = socket_folder(data, owner=user.pw_uid if user else os.geteuid())
    text = f"{stranger}\n{data}\n{int(time.time())}\n5432\n{sockets}\n*\n 1 1\nready   \n"
    (data / "postmaster.pid").write_text(text)
    (sockets / ".s.PGSQL.5432.lock").write_text(text)
    (sockets / ".s.PGSQL.5432").touch()
    with start_local_servers(workspace, durable=False) as servers:
        assert servers.postgres_pid() not in (None, stranger)
    os.kill(stranger, 0)  # and it has not been mistaken for a server of ours and stopped


def test_a_stale_redis_socket_does_not_block_the_start(workspace: Path) -> None:
    sockets = socket_folder(workspace / "servers" / "redis", owner=os.geteuid())
    (sockets / "redis.sock").touch()
    with start_local_servers(workspace, durable=False) as servers:
        assert (servers.redis_pid() is None) == (servers.redis_url is None)
        assert not any("did not start" in note for note in servers.notes)


def test_a_kill_in_the_middle_of_initdb_does_not_block_the_start(other: Other, place: Path) -> None:
    killed, folder = other(place), place / "servers"
    wait_until((folder / "postgres.new" / "PG_VERSION").exists)
    killed.kill()
    assert lives(place, "postgres"), "initdb goes on without its caller"
    assert not (folder / "postgres").exists()
    with start_local_servers(place, durable=False) as servers:
        assert ask(servers, "SELECT 1") == [(1,)]
        assert not (folder / "postgres.new").exists()


def test_a_server_that_is_still_starting_is_waited_for(workspace: Path) -> None:
    with start_local_servers(workspace, durable=False) as servers:
        kill(servers.postgres_pid())
    folder, account = workspace / "servers", servers_user()
    lock = ServerLock(folder / "postgres.lock")
    lock.wait_until_free(30)
    sockets = socket_folder(folder / "postgres", owner=account.pw_uid if account else os.geteuid())
    (folder / "postgres" / "postmaster.pid").unlink()
    clear_sockets(sockets)
    with lock.taken() as lock_file:
        # As if the process that started it had been killed while the server still recovered from the crash.
        options = f"-k {sockets} -c listen_addresses= -c log_startup_progress_interval=0"
        subprocess.run(
            [find_programs() / "pg_ctl", "start", "-W", "-D", "postgres", "-l", "postgres.log", "-o", options],
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            cwd=folder,
            pass_fds=(lock_file,),
            stdout=subprocess.DEVNULL,
            check=True,
        )
    with start_local_servers(workspace, durable=False) as servers:
        assert ask(servers, "SELECT 1") == [(1,)]
