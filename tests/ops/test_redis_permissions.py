"""What a Redis user lacks is named, and the documented rights suffice for a whole run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.chaos.harness import Fleet, own_redis
from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.ops.doctor_checks import checks
from tests.ops.readiness import Clock, checker
from tests.support.fleet import beat
from tests.support.redis_users import documented_rights, refusals, set_user
from tests.support.runs import wait_until_still
from tests.support.waiting import eventually
from vm_webapp.ops.redis_permissions import find_missing_permission
from vm_webapp.redis_client import quick_client

# Connections, and what one finds out only by scanning the whole Redis.
NOT_TRIED = {"ping", "select", "info", "client|setinfo", "keys", "unsubscribe"}
COMMANDS = [right.removeprefix("+") for right in documented_rights() if right.startswith("+")]


@pytest.fixture(scope="module")
def own_redis_url() -> Iterator[str]:
    """A Redis for these tests alone: its users stay in it."""
    with own_redis() as server:
        yield server.url


def missing(url: str, rights: list[str]) -> str | None:
    """Return what is found to be missing for a user with these rights."""
    with quick_client(set_user(url, "tried", rights), 1.0) as client:
        return find_missing_permission(client)


def test_the_documented_rights_lack_nothing(own_redis_url: str) -> None:
    assert missing(own_redis_url, documented_rights()) is None


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in NOT_TRIED])
def test_a_command_that_is_missing_is_named(own_redis_url: str, command: str) -> None:
    said = missing(own_redis_url, [right for right in documented_rights() if right != f"+{command}"])
    assert said is not None
    assert said.split(" on ")[0] == command.replace("|", " ").upper()


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ("~vm:*", "SET on the keys vm and vm:*"),
        ("~vm", "EVALSHA on the keys vm and vm:*"),
        ("&vm:run:*", "PUBLISH on the channels vm:run:*"),
    ],
)
def test_keys_and_channels_that_are_missing_are_named(own_redis_url: str, right: str, said: str) -> None:
    assert missing(own_redis_url, [each for each in documented_rights() if each != right]) == said


def test_the_check_leaves_nothing_behind(own_redis_url: str) -> None:
    with redis.Redis.from_url(own_redis_url) as client:
        before = client.dbsize()
        assert find_missing_permission(client) is None
        assert client.dbsize() == before


@pytest.mark.usefixtures("database")
def test_readiness_and_doctor_say_what_a_user_without_channels_lacks(own_redis_url: str) -> None:
    beat()
    without_channels = set_user(own_redis_url, "channelless", ["~*", "+@all", "resetchannels"])
    own = checker(Clock(), without_channels)
    health = own.check()
    assert health.ready
    facts = health.dependencies["redis"]
    assert (facts["status"], "PUBLISH on the channels vm:run:*" in facts["note"]) == ("degraded", True), facts
    check = checks(without_channels)["redis"]
    assert (check.verdict, "PUBLISH on the channels vm:run:*" in check.detail) == ("warn", True), check
    set_user(own_redis_url, "channelless", ["~*", "+@all", "resetchannels", "&vm:run:*"])
    assert own.check().dependencies["redis"] == {"status": "ok"}
    assert checks(without_channels)["redis"].verdict == "ok"


@pytest.mark.usefixtures("database")
def test_the_doctor_says_that_it_may_not_read_the_policy(own_redis_url: str) -> None:
    url = set_user(own_redis_url, "uninformed", [right for right in documented_rights() if right != "+info"])
    found = checks(url)
    assert found["redis"].verdict == "ok"
    assert "may not run INFO" in found["redis policy"].detail


@pytest.mark.timeout(120)
def test_a_whole_run_under_the_documented_rights_is_refused_nothing(
    own_redis_url: str, database: str, model: ModelServer, tmp_path: Path
) -> None:
    with redis.Redis.from_url(own_redis_url) as client:
        client.flushall()
        client.acl_log_reset()
    url = set_user(own_redis_url, "vm", documented_rights())
    model.script = lambda body: Behaviour(text="word " * 100, pause=0.02)  # it writes for long enough to be shown
    with Fleet(tmp_path, database, url, model) as fleet:
        (worker,) = fleet.start_and_wait(1, threads=2, poll_ms=30_000)
        api = fleet.start_api()
        eventually(lambda: api.says_redis_is("ok"), "ready", seconds=40)
        time.sleep(1)  # the worker's first poll, after which only a hint finds a run for half a minute
        began = time.monotonic()
        posted = api.post_run()
        with api.client.stream(
            "GET", f"/runs/{posted.run_id}/events", headers={"Accept": "text/event-stream"}
        ) as stream:
            events = [line for line in _lines(stream) if line.startswith("event: ")]
        assert time.monotonic() - began < 15, "a poll, and no hint, found the run"
        assert wait_until_still(posted.run_id).status == "completed"
        assert events[-1] == "event: run.completed"
        assert "event: stage.progress" in events, "the model's text came over a channel"
        assert worker.stop() == 0
    assert refusals(own_redis_url) == []


def _lines(stream: httpx.Response) -> Iterator[str]:
    yield from stream.iter_lines()
