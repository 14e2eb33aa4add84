"""Notices and hints as Redis gets them: few round trips, and nothing for those whom nobody follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from actors import hints as hints_module
from actors import notices as notices_module
from actors.dramatiq_queue import QUEUE
from actors.hints import MAX_HINTS, STALE_SECONDS, HintSender
from actors.notices import Notice, Notices
from actors.sender import Sender
from tests.support.redis_users import set_user
from tests.support.waiting import eventually
from tests.worker.test_dramatiq_contract import hint
from vm_webapp.execution.progress import Listeners
from vm_webapp.fleet.presence import Presence
from vm_webapp.redis_client import quick_client
from vm_webapp.redis_keys import channel_of, followers_of, hints_of

DATABASE = "x:1"  # not that of the workers of other tests
LIST = hints_of(DATABASE)
RUNS = [uuid4() for _ in range(4)]
NOBODY = Listeners(0, frozenset())


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of a real Redis, connected; Redis counts anew."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as connected:
        connected.config_resetstat()
        yield connected


def calls(client: redis.Redis, command: str) -> int:
    """Return how often Redis has run a command since the test began."""
    found: int = client.info("commandstats")[f"cmdstat_{command}"]["calls"]
    return found


def round_trips(client: redis.Redis) -> int:
    """Return how many messages Redis has read, this question left out."""
    reads: int = client.info("stats")["total_reads_processed"]
    return reads - 1


class TestNotices:
    @pytest.fixture
    def notices(self, client: redis.Redis) -> Notices:
        made = Notices(lambda: DATABASE)
        made.client = client
        return made

    @pytest.fixture
    def sender(self, notices: Notices) -> Sender:
        return Sender(notices.lane)

    def test_they_are_published_in_one_round_trip(self, client: redis.Redis, notices: Notices) -> None:
        with client.pubsub(ignore_subscribe_messages=True) as listener:
            listener.psubscribe("vm:run:*")
            listener.get_message(timeout=5)  # confirms the subscription
            before = round_trips(client)
            assert notices.lane.send([Notice(RUNS[1], "a piece"), Notice(RUNS[2], "")]) == []
            assert round_trips(client) - before == 1 + 1, "the notices, and the question before"
            heard = [listener.get_message(timeout=5) for _ in range(2)]
        assert [(message["channel"][-1], message["data"]) for message in heard if message] == [
            (channel_of(DATABASE, RUNS[1])[-1], "a piece"),
            (channel_of(DATABASE, RUNS[2])[-1], ""),
        ]

    def test_equal_ones_that_wait_are_published_once(
        self, client: redis.Redis, notices: Notices, sender: Sender
    ) -> None:
        for text in ("", "a piece", ""):
            for run in RUNS[1:3]:
                notices.put(sender, Notice(run, text))
        assert sender.flush(5)
        assert calls(client, "publish") <= 2 + 4  # the first two may have been under way before the others came

    def test_what_redis_refuses_drops_no_other(self, notices: Notices, sender: Sender, redis_url: str) -> None:
        limited = set_user(redis_url, "limited", ["~*", "resetchannels", f"&{channel_of(DATABASE, RUNS[1])}", "+@all"])
        with redis.Redis.from_url(limited) as refused:
            notices.client = refused
            for run in RUNS[:3]:
                notices.put(sender, Notice(run, "a piece"))
            assert sender.flush(5)
        assert sender.failed == 2
        assert notices.listeners(RUNS[0]) is None, "a refusal says nothing of listeners"
        assert notices.listeners(RUNS[1]) == NOBODY

    def test_it_is_known_who_heard_the_last_piece(
        self, client: redis.Redis, notices: Notices, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notices_module, "MOST_COUNTED", 2)
        run, channel = RUNS[1], channel_of(DATABASE, RUNS[1])

        def listeners_of_a_piece(run: UUID = run) -> Listeners | None:
            notices.put(sender, Notice(run, "a piece"))
            assert sender.flush(5)
            return notices.listeners(run)

        assert notices.listeners(run) is None, "nothing has been published"
        assert listeners_of_a_piece() == NOBODY
        client.sadd(followers_of(DATABASE, run), "a word")
        with client.pubsub() as listener:
            listener.subscribe(channel)
            eventually(lambda: client.pubsub_numsub(channel) == [(channel, 1)], "the subscription")
            assert listeners_of_a_piece() == Listeners(1, frozenset(["a word"]))  # type: ignore[list-item]
        eventually(lambda: listeners_of_a_piece() != Listeners(1, frozenset(["a word"])), "its end")  # type: ignore[list-item]
        # Runs are forgotten, the oldest first: they come and go for as long as the process lives.
        for further in RUNS[2:4]:
            assert listeners_of_a_piece(further) == NOBODY
        assert notices.listeners(run) is None


class TestHints:
    @pytest.fixture
    def client(self, client: redis.Redis, redis_url: str) -> Iterator[redis.Redis]:
        """A client that gives bytes, as the program's own."""
        with redis.Redis.from_url(redis_url) as connected:
            connected.ping()
            yield connected

    @pytest.fixture
    def hints(self, client: redis.Redis) -> HintSender:
        client.delete(LIST, *client.keys("vm:presence:*"), *client.keys("vm:stages*"), "vm:bell")
        return HintSender(client, lambda: DATABASE)

    def test_they_go_in_one_round_trip_and_soon_expire(self, client: redis.Redis, hints: HintSender) -> None:
        assert hints.send([hint()]) == []  # reads the clock, and asks for workers of the build before
        before = round_trips(client)
        assert hints.send([hint() for _ in range(5)]) == []
        assert round_trips(client) - before == 1 + 1, "the hints, and the question before"
        assert client.llen(LIST) == 6
        assert 0 < client.ttl(LIST) <= STALE_SECONDS
        assert not client.exists("vm:stages", "vm:bell")

    def test_the_newest_are_kept(self, client: redis.Redis, hints: HintSender) -> None:
        sent = [hint() for _ in range(MAX_HINTS + 5)]
        assert hints.send(sent[:7]) == []
        assert hints.send(sent[7:]) == []
        kept = [json.loads(body)["args"] for body in client.lrange(LIST, 0, -1)]
        assert kept == [list(each.args) for each in sent[5:]]

    def test_workers_of_the_build_before_get_them_as_they_take_them(
        self, client: redis.Redis, hints: HintSender
    ) -> None:
        earlier = {"fingerprint": DATABASE, "state": "working", "build": "1.0", "host": "h", "pid": 1}
        Presence(client).announce(uuid4(), earlier)
        sent = [hint(), hint()]
        assert hints.send(sent) == []
        stock = RedisBroker(client=client, namespace="vm", middleware=[])
        assert (client.llen("vm:stages"), client.llen("vm:bell")) == (2, 2)
        assert client.hlen("vm:stages.msgs") == stock.do_qsize(QUEUE) == 2

    @pytest.mark.parametrize("facts", [{"fingerprint": "another"}, {"fingerprint": "x:1", "hints": "by database"}])
    def test_other_workers_do_not(self, client: redis.Redis, hints: HintSender, facts: dict[str, str]) -> None:
        Presence(client).announce(uuid4(), facts)
        assert hints.send([hint()]) == []
        assert not client.exists("vm:stages", "vm:bell")

    def test_after_the_first_round_one_goes_without_waiting(
        self, client: redis.Redis, hints: HintSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hints_module, "known_fingerprint", lambda: DATABASE)
        assert not hints.offer(hint())
        assert hints.send([hint()]) == []
        assert hints.offer(hint())
        assert hints.offer(hint())
        assert hints.send([]) == []
        assert client.llen(LIST) == 3

    def test_what_redis_refuses_of_what_was_offered_is_returned_by_the_next_round(
        self, client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hints_module, "known_fingerprint", lambda: DATABASE)
        rights = ["~*", "+@all"]
        with redis.Redis.from_url(set_user(redis_url, "offering", rights)) as offering:
            hints = HintSender(offering, lambda: DATABASE)
            assert hints.send([hint()]) == []
            client.execute_command("ACL", "SETUSER", "offering", "-rpush")
            assert hints.offer(hint())
            assert [type(refusal) for refusal in hints.send([])] == [redis.exceptions.NoPermissionError]

    def test_while_workers_of_the_build_before_are_there_none_is_offered(
        self, client: redis.Redis, hints: HintSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hints_module, "known_fingerprint", lambda: DATABASE)
        Presence(client).announce(uuid4(), {"fingerprint": DATABASE})
        assert hints.send([hint()]) == []
        assert not hints.offer(hint())

    def test_while_the_database_is_not_known_they_are_refused(self, client: redis.Redis) -> None:
        assert len(HintSender(client, lambda: None).send([hint()])) == 1

    def test_what_redis_refuses_is_returned(self, redis_url: str) -> None:
        limited = set_user(redis_url, "limited", ["~*", "+@all", "-rpush"])
        with redis.Redis.from_url(limited) as refused:
            refusals = HintSender(refused, lambda: DATABASE).send([hint()])
        assert [type(refusal) for refusal in refusals] == [redis.exceptions.NoPermissionError]

    def test_a_redis_that_is_gone_raises(self) -> None:
        with pytest.raises(redis.RedisError):
            HintSender(quick_client("unix:///nonexistent/redis.sock", 1.0), lambda: DATABASE).send([hint()])
