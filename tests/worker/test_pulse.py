"""The loop beside the threads, tick by tick, with the time passed in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import NoReturn
from uuid import UUID, uuid4

import pytest
import redis

from actors.pulse import Pulse
from tests.support.runs import create, read, types
from tests.support.waiting import eventually
from vm_webapp.db.pool import execute, transaction
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.offline import OfflineProvider
from vm_webapp.llm.template import TemplateProvider
from vm_webapp.redis_client import quick_client
from vm_webapp.runs import lifecycle
from vm_webapp.runs.heartbeat import LONGEST_GAP_SECONDS, Beat, WorkerIdentity, write_heartbeat
from vm_webapp.runs.leases import HeldLeases
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.mirror import ArtifactMirror
from vm_webapp.runs.presence import Presence
from vm_webapp.runs.stage_runner import StageRunner
from vm_webapp.runs.states import LEASE_SECONDS

MakePulse = Callable[..., Pulse]


@pytest.fixture
def make_pulse(database: str, tmp_path_factory: pytest.TempPathFactory) -> MakePulse:
    """Return what makes a pulse that ticks when told to."""
    claimant = Claimant(uuid4(), "offline")
    runner = StageRunner(
        claimant,
        model=OfflineProvider(),
        template=TemplateProvider(),
        calls=CallLoop(),
        leases=HeldLeases(),
        mirror=ArtifactMirror(tmp_path_factory.mktemp("mirror")),
        on_due=lambda id: None,
    )

    def make(
        *,
        prepare: Callable[[], str] = lambda: "",
        threads_alive: Callable[[], bool] = lambda: True,
        on_due: Callable[[UUID], object] = lambda id: None,
        on_deaf: Callable[[], object] = lambda: None,
        presence: Presence | None = None,
    ) -> Pulse:
        return Pulse(
            database,
            presence,
            WorkerIdentity(claimant.worker_id, "offline", 4),
            runner,
            prepare=prepare,
            threads_alive=threads_alive,
            on_due=on_due,
            on_deaf=on_deaf,
            hints_failed=lambda: 3,
        )

    return make


def orphan() -> lifecycle.CreatedRun:
    """Return a run whose stage is held by a worker that is gone."""
    created = create()
    lifecycle.claim_stage(created.due_stage_ids[0], Claimant(uuid4(), "offline"), token=uuid4())
    with transaction():
        execute("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'")
    return created


def tick(pulse: Pulse, *times: float) -> None:
    """Tick at each of these monotonic times."""
    for now in times:
        pulse.tick_once(now)


def shift_ticks(*, steady: float = 0, last: float = 0) -> None:
    """Pretend that ticks have been reaching the database for longer, or that the last one is longer ago."""
    with transaction():
        execute(
            "UPDATE worker_heartbeats SET steady_since = steady_since - %(steady)s * interval '1 s',"
            " last_tick_at = last_tick_at - %(last)s * interval '1 s'",
            steady=steady,
            last=last,
        )


def test_nobody_is_rescued_before_one_lease_length_of_ticks(make_pulse: MakePulse) -> None:
    due: list[UUID] = []
    created, pulse = orphan(), make_pulse(on_due=due.append)
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS - 1)
    tick(pulse, 2.0)
    assert "stage.rescued" not in types(created.run.id)
    shift_ticks(steady=1)
    tick(pulse, 3.0)
    assert types(created.run.id)[-1] == "stage.rescued"
    assert due == list(created.due_stage_ids)


def test_a_gap_in_everybodys_ticks_begins_the_wait_anew(make_pulse: MakePulse) -> None:
    created, pulse = orphan(), make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=60, last=LONGEST_GAP_SECONDS + 1)
    tick(pulse, 2.0)
    assert "stage.rescued" not in types(created.run.id)
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 3.0)
    assert "stage.rescued" in types(created.run.id)


def test_a_new_worker_may_rescue_at_once_where_others_have_been_ticking(make_pulse: MakePulse) -> None:
    created = orphan()
    write_heartbeat(WorkerIdentity(uuid4(), "offline", 4), Beat("working", 0))
    shift_ticks(steady=LEASE_SECONDS)
    tick(make_pulse(), 1.0)
    assert "stage.rescued" in types(created.run.id)


def test_a_failed_tick_is_told(make_pulse: MakePulse) -> None:
    pulse = make_pulse()
    pulse._note_bad_tick(RuntimeError("the database went away"))
    tick(pulse, 1.0)
    (row,) = read("SELECT last_error, counters FROM worker_heartbeats")
    assert row["last_error"]["error"] == "the database went away"
    assert row["counters"]["loop_errors"] == 1


def test_a_draining_worker_rescues_nobody(make_pulse: MakePulse) -> None:
    created, pulse = orphan(), make_pulse()
    tick(pulse, 1.0)
    pulse.announce("draining")
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 2.0)
    assert "stage.rescued" not in types(created.run.id)
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "draining"}]


def test_a_worker_begins_when_the_schema_is_there_and_not_before(make_pulse: MakePulse) -> None:
    reasons = ["not yet", "not yet", ""]
    pulse = make_pulse(prepare=lambda: reasons.pop(0))
    tick(pulse, 1.0, 2.0)
    assert (pulse.started, read("SELECT * FROM worker_heartbeats")) == (False, [])
    tick(pulse, 3.0, 4.0)
    assert (pulse.started, reasons) == (True, [])
    assert len(read("SELECT * FROM worker_heartbeats")) == 1


def test_a_deaf_worker_writes_no_heartbeat(make_pulse: MakePulse) -> None:
    alive = [True, False, False]
    pulse = make_pulse(threads_alive=lambda: alive.pop(0))
    tick(pulse, 1.0)
    before = read("SELECT last_tick_at FROM worker_heartbeats")
    tick(pulse, 2.0, 3.0)
    assert read("SELECT last_tick_at FROM worker_heartbeats") == before
    assert pulse.deaf


def test_stopped_workers_are_forgotten_after_a_day(make_pulse: MakePulse) -> None:
    tick(make_pulse(), 1.0)
    with transaction():
        execute(
            "UPDATE worker_heartbeats SET last_tick_at = now() - interval '25 hours', worker_id = gen_random_uuid()"
        )
    tick(make_pulse(), 1.0)
    assert len(read("SELECT * FROM worker_heartbeats")) == 1


def test_presence_says_which_database_is_used_and_expires(make_pulse: MakePulse, redis_url: str) -> None:
    presence = Presence(quick_client(redis_url, 1.0))
    tick(make_pulse(presence=presence), 1.0)
    (facts,) = eventually(presence.present, "the worker is present")
    assert facts["fingerprint"] == read("SELECT fingerprint FROM worker_heartbeats")[0]["fingerprint"]
    with redis.Redis.from_url(redis_url) as client:
        (key,) = [key for key in client.scan_iter("vm:presence:*") if not key.endswith(b":workers")]
        assert 0 < client.ttl(key) <= 10
        client.delete(key)
    assert presence.present() == []


def test_presence_never_fails_for_redis_sake(make_pulse: MakePulse) -> None:
    tick(make_pulse(presence=Presence(quick_client("redis://127.0.0.1:1/0", 0.1))), 1.0, 2.0)
    assert len(read("SELECT * FROM worker_heartbeats")) == 1


def test_a_name_that_does_not_resolve_holds_up_nothing(make_pulse: MakePulse, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def resolve(*args: object, **kwargs: object) -> NoReturn:
        asked.set()
        answer.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    pulse = make_pulse(presence=Presence(quick_client("redis://redis.internal:6379/0", 0.1)))
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        try:
            began = time.monotonic()
            tick(pulse, 1.0)
            assert asked.wait(5)
            tick(pulse, 2.0, 3.0)
            assert time.monotonic() - began < 5
        finally:
            answer.set()
            eventually(lambda: "presence" not in {thread.name for thread in threading.enumerate()}, "it gives up")


def test_a_heartbeat_counts_the_rescued_and_the_hints_that_failed(make_pulse: MakePulse) -> None:
    orphan()
    pulse = make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 2.0, 3.0)
    (row,) = read("SELECT counters FROM worker_heartbeats")
    assert (row["counters"]["rescued"], row["counters"]["hints_failed"]) == (1, 3)


def test_a_drain_that_begins_while_the_schema_is_prepared_stays_a_drain(make_pulse: MakePulse) -> None:
    def prepare() -> str:
        pulse.announce("draining")
        return ""

    pulse = make_pulse(prepare=prepare)
    tick(pulse, 1.0, 2.0)
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "draining"}]
