"""Reports to Judoscale: what they say, who sends them, and what happens when nobody takes them."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from uuid import uuid4

import pytest

from tests.fakes.judoscale import SECRET, FakeJudoscale, real_report
from tests.support.fleet import change
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp import endpoint
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.fleet.duty_leases import DutyLease
from vm_webapp.ops.autoscale import judoscale
from vm_webapp.ops.autoscale.judoscale import JudoscaleReporter, reporting
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


class Clock:
    """A monotonic clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def taking() -> Iterator[FakeJudoscale]:
    with FakeJudoscale() as fake:
        yield fake


def reporter(url: str, *, clock: Callable[[], float] = time.monotonic, holder: str = "one") -> JudoscaleReporter:
    return JudoscaleReporter(Settings(judoscale_url=url), DutyLease("judoscale", holder, seconds=20), clock=clock)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.message for entry in caplog.records if entry.message.startswith("judoscale")]


def test_a_report_is_the_librarys_and_has_the_figures_of_the_queue(taking: FakeJudoscale) -> None:
    waiting, running = create(), create()
    lifecycle.claim_stage(running.stage_id, Claimant(uuid4(), "kimi"), token=uuid4())
    change("UPDATE stages SET available_at = now() - interval '90 s' WHERE id = %(id)s", id=waiting.stage_id)
    before = time.time()
    assert reporter(taking.url).run_once()
    assert taking.refused == []
    (sent,) = taking.reports
    (late, busy) = sent["metrics"]
    assert round(before) <= late[0] == busy[0] <= round(time.time())
    assert 90_000 <= late[1] < 100_000
    assert (late[2:], busy[1:]) == (["qt", "stages"], [1, "busy", "stages"])
    assert (sent["container"], sent["pid"]) == (socket.gethostname(), os.getpid())
    assert sent["config"] == {"log_level": "INFO", "report_interval_seconds": 10}
    assert real_report()["config"]["report_interval_seconds"] == judoscale.REPORT_SECONDS


def test_an_empty_queue_is_reported_too(taking: FakeJudoscale) -> None:
    # Without a report, Judoscale would take the last one for the present.
    assert reporter(taking.url).run_once()
    assert [row[1:] for row in taking.reports[0]["metrics"]] == [[0, "qt", "stages"], [0, "busy", "stages"]]


def test_one_of_several_processes_reports_and_another_when_it_has_ended(taking: FakeJudoscale) -> None:
    one, two = reporter(taking.url), reporter(taking.url, holder="two")
    assert [one.run_once(), two.run_once(), one.run_once()] == [True, False, True]
    one.release()
    assert [two.run_once(), one.run_once()] == [True, False]
    assert read("SELECT holder FROM duty_leases WHERE name = 'judoscale'") == [{"holder": "two"}]


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503, 307])
def test_a_refusal_is_said_once_and_waited_out_longer_each_time(
    taking: FakeJudoscale, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    one = reporter(taking.url, clock=clock)
    taking.status = status
    tried = []
    for _ in range(60):
        before = taking.requests
        assert not one.run_once()
        tried.append(taking.requests > before)
        clock.now += 10
    at = [10 * number for number, each in enumerate(tried) if each]
    assert [later - earlier for earlier, later in pairwise(at)][:5] == [20, 40, 80, 120, 120]
    assert said(caplog) == ["judoscale.not_reported"]
    assert caplog.records[-1].__dict__["error"] == f"Judoscale responded {status}"
    taking.status, clock.now = 200, clock.now + 120
    assert [one.run_once(), one.run_once()] == [True, True]
    assert said(caplog) == ["judoscale.not_reported", "judoscale.reported_again"]
    assert SECRET not in repr([vars(entry) for entry in caplog.records])


def test_who_waits_a_failure_out_keeps_the_lease(taking: FakeJudoscale) -> None:
    taking.status = 500
    one, two = reporter(taking.url), reporter(taking.url, holder="two")
    assert [one.run_once(), one.run_once(), two.run_once()] == [False, False, False]
    assert (taking.requests, read("SELECT holder FROM duty_leases")) == (1, [{"holder": "one"}])


def test_an_address_where_nobody_listens_is_said_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    assert not reporter(f"http://127.0.0.1:{port}/api/{SECRET}").run_once()
    (line,) = caplog.records
    assert line.__dict__["error"].startswith("no connection to Judoscale: ")
    assert SECRET not in repr(vars(line))


def test_a_server_that_hangs_is_given_up(taking: FakeJudoscale, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint.TIMEOUT_SECONDS == 3
    monkeypatch.setattr(endpoint, "TIMEOUT_SECONDS", 0.2)
    taking.hangs = True
    began = time.monotonic()
    assert not reporter(taking.url).run_once()
    assert time.monotonic() - began < 2


def test_an_api_ends_while_judoscale_hangs_and_another_takes_over_at_once(taking: FakeJudoscale) -> None:
    taking.hangs = True
    with reporting(Settings(judoscale_url=taking.url)):
        eventually(lambda: taking.requests, "a report is being sent")
        began = time.monotonic()
    assert time.monotonic() - began < judoscale.STOP_SECONDS + 1
    taking.hangs = False
    assert reporter(taking.url, holder="two").run_once()


def test_a_database_that_is_away_is_said_once(
    taking: FakeJudoscale, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise DatabaseUnavailable("it is away")

    clock = Clock()
    one = reporter(taking.url, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(judoscale, "read_signal", away)
        assert [one.run_once(), one.run_once()] == [False, False]
    assert (said(caplog), taking.requests) == (["judoscale.not_reported"], 0)
    clock.now += 20
    assert one.run_once()
