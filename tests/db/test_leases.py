"""Leases: which are renewed, which are abandoned, and that one locked stage costs no other its lease."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest

from tests.db.stages import create_stages, expire_leases
from tests.support.runs import read
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.execution.leases import HeldLeases, renew_leases
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant
from vm_webapp.runs.states import LEASE_GRACE_SECONDS

pytestmark = pytest.mark.usefixtures("database")


def claimed() -> Claim:
    """Return a new run's first stage, claimed."""
    (stage_id,) = create_stages(1)
    found = lifecycle.claim_stage(stage_id, Claimant(uuid4(), "kimi"), token=uuid4())
    assert found is not None
    return found


def test_renewal_returns_exactly_the_tokens_that_still_hold() -> None:
    held, lost = claimed(), claimed()
    lifecycle.cancel_run_if_open(lost.run_id, actor=Actor("tests"))
    assert renew_leases(dict.fromkeys([held.token, lost.token, uuid4()], 60.0)) == {held.token}


def test_a_locked_stage_costs_no_other_its_lease(database: str) -> None:
    locked, free = claimed(), claimed()
    expire_leases()
    with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
        cursor.execute("SELECT 1 FROM stages WHERE id = %s FOR UPDATE", (str(locked.stage_id),))
        # The locked lease is reported as held although it was not renewed, and no rescue takes the stage meanwhile.
        assert renew_leases(dict.fromkeys([locked.token, free.token], 60.0)) == {locked.token, free.token}
        assert lifecycle.rescue_expired_leases().queued == ()
        session.rollback()  # the server would end it only some time after the connection
    (renewed,) = read("SELECT id FROM stages WHERE lease_expires_at > clock_timestamp()")
    assert renewed["id"] == free.stage_id
    assert renew_leases(dict.fromkeys([locked.token, free.token], 60.0)) == {locked.token, free.token}
    assert lifecycle.rescue_expired_leases().queued == ()


def test_a_lost_lease_is_abandoned_and_its_call_canceled() -> None:
    held, lost = claimed(), claimed()
    leases, canceled = HeldLeases(), threading.Event()
    with leases.hold(held.token, timeout_seconds=60) as kept, leases.hold(lost.token, timeout_seconds=60) as gone:
        gone.on_abandon(canceled.set)
        lifecycle.cancel_run_if_open(lost.run_id, actor=Actor("tests"))
        assert leases.renew_once() == (lost.token,)
        assert (kept.why_abandoned, gone.why_abandoned, canceled.is_set()) == (None, "lost", True)


def test_the_lease_of_a_thread_that_died_or_overran_is_not_renewed() -> None:
    held = claimed()
    leases = HeldLeases()
    with leases.hold(held.token, timeout_seconds=-100):
        assert leases.renew_once() == (held.token,)
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    with leases.hold(held.token, timeout_seconds=60) as lease:
        lease.thread = dead  # a thread cannot die inside the block without leaving it, so it is replaced
        assert leases.renew_once() == (held.token,)


def deadline_in_seconds(claim: Claim) -> float:
    (stage,) = read(
        "SELECT extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds FROM stages WHERE id = %(id)s",
        id=claim.stage_id,
    )
    return float(stage["seconds"])


def test_a_deadline_that_moves_is_moved_in_the_database_by_the_renewal() -> None:
    held = claimed()
    leases = HeldLeases()
    with leases.hold(held.token, timeout_seconds=held.seconds_left) as lease:
        before = deadline_in_seconds(held)
        lease.extend(time.monotonic() + before + 100)
        assert leases.renew_once() == ()
        assert deadline_in_seconds(held) == pytest.approx(before + 100, abs=5)
        lease.extend(time.monotonic())
        assert leases.renew_once() == ()
        assert deadline_in_seconds(held) == pytest.approx(before + 100, abs=5)


def test_a_deadline_is_never_moved_to_an_earlier_time() -> None:
    held = claimed()
    before = deadline_in_seconds(held)
    assert renew_leases({held.token: 1.0}) == {held.token}
    assert deadline_in_seconds(held) == pytest.approx(before, abs=5)


def test_no_lease_lasts_longer_than_its_deadline_and_the_grace() -> None:
    held = claimed()
    with transaction():
        execute("UPDATE stages SET deadline_at = clock_timestamp() + interval '1 s' WHERE status = 'running'")
    assert renew_leases({held.token: 2.0}) == {held.token}
    (stage,) = read(
        "SELECT extract(epoch FROM lease_expires_at - deadline_at)::float8 AS grace FROM stages WHERE id = %(id)s",
        id=held.stage_id,
    )
    assert stage["grace"] == pytest.approx(LEASE_GRACE_SECONDS, abs=0.01)
    assert deadline_in_seconds(held) == pytest.approx(2, abs=1)
