"""The rows in which processes publish their metrics: written, read, and added up when they are purged."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.fleet import process_metrics
from vm_webapp.fleet.process_metrics import (
    KEEP_HOURS,
    PURGE_BATCH,
    Process,
    Publisher,
    insert_samples,
    published,
    purge_old_samples,
    read_samples,
)
from vm_webapp.fleet.samples import Samples

pytestmark = pytest.mark.usefixtures("database")
KEY, OTHER_KEY = '["vm_rescues"]', '["vm_http_request_seconds","GET","/x","sum"]'


def samples(counters: dict[str, float], **gauges: float) -> Samples:
    """Return the samples of a process."""
    return {"counters": counters, "gauges": gauges}


def age(process: Process, interval: str) -> None:
    """Make a process's row look as if it had been written so long ago."""
    with transaction():
        execute(
            "UPDATE process_metrics SET written_at = written_at - %(age)s::interval WHERE process_id = %(id)s",
            age=interval,
            id=process.id,
        )


def read() -> list[Any]:
    """Return what a scrape reads."""
    with transaction():
        return read_samples()


def totals(kind: str) -> dict[str, float]:
    """Return the sum of each counter over all processes of a kind, as Prometheus would."""
    total: Counter[str] = Counter()
    for each in read():
        if each.process == kind:
            total.update(each.samples["counters"])
    return dict(total)


def fail(*arguments: object) -> None:
    """Fail as a write does whose connection breaks."""
    raise DatabaseUnavailable("gone")


class TestPublisher:
    """What a process writes, and how often."""

    @pytest.fixture
    def process(self) -> Process:
        """The process."""
        return Process("worker")

    def publisher(self, process: Process) -> Publisher:
        """Return a publisher of what the test says, at the time that the test says."""
        self.counters: dict[str, float] = {KEY: 1}
        self.now = 1000.0
        return Publisher(process, collect=lambda: samples(dict(self.counters)), clock=lambda: self.now)

    def test_nothing_is_written_while_nothing_changes(self, process: Process) -> None:
        publisher = self.publisher(process)
        assert publisher.publish_once()
        self.now += 5
        assert not publisher.publish_once()
        self.counters[KEY] = 2
        assert publisher.publish_once()
        assert totals("worker") == {KEY: 2}

    def test_an_idle_process_still_says_that_it_is_alive(self, process: Process) -> None:
        publisher = self.publisher(process)
        publisher.publish_once()
        writes = []
        for _ in range(60):
            self.now += 5
            writes.append(publisher.publish_once())
        assert sum(writes) == 30

    def test_a_process_that_was_taken_for_gone_counts_on_and_nothing_twice(self, process: Process) -> None:
        publisher = self.publisher(process)
        publisher.publish_once()
        age(process, "25 hours")
        purge_old_samples()
        assert totals("worker") == {KEY: 1}
        self.counters[KEY] = 4
        publisher.publish_once()
        assert totals("worker") == {KEY: 4}
        self.counters[KEY] = 6
        publisher.publish_once()
        assert totals("worker") == {KEY: 6}

    def test_what_is_purged_is_taken_off_once_although_the_database_fails_meanwhile(
        self, process: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publisher = self.publisher(process)
        publisher.publish_once()
        age(process, "25 hours")
        purge_old_samples()
        self.counters[KEY] = 4
        with monkeypatch.context() as patched:
            patched.setattr(process_metrics, "insert_samples", fail)
            with pytest.raises(DatabaseUnavailable):
                publisher.publish_once()
        publisher.publish_once()
        assert totals("worker") == {KEY: 4}

    def test_the_end_of_a_process_is_published(self, process: Process) -> None:
        with published(process):
            pass
        (found,) = read()
        assert (found.process, found.instance) == ("worker", process.instance)


class TestReading:
    """What a scrape gets."""

    def test_gauges_of_a_process_that_no_longer_writes_are_not_shown(self) -> None:
        dead, alive = Process("api"), Process("api")
        insert_samples(dead, samples({KEY: 1}, a=5))
        insert_samples(alive, samples({KEY: 2}, a=6))
        age(dead, "16 seconds")
        found = {each.instance: each.samples for each in read()}
        assert found == {dead.instance: {"counters": {KEY: 1}}, alive.instance: samples({KEY: 2}, a=6)}

    def test_processes_have_names_of_their_own(self) -> None:
        assert Process("api").instance != Process("api").instance


class TestPurging:
    """No counter falls when a row goes."""

    def test_what_is_gone_is_counted_on_under_its_kind(self) -> None:
        old, older, kept, api = Process("worker"), Process("worker"), Process("worker"), Process("api")
        insert_samples(old, samples({KEY: 1, OTHER_KEY: 0.25}, a=5))
        insert_samples(older, samples({KEY: 2}))
        insert_samples(kept, samples({KEY: 4}))
        insert_samples(api, samples({KEY: 8}))
        for each in (old, older, api):
            age(each, f"{KEEP_HOURS} hours 1 second")
        age(kept, f"{KEEP_HOURS} hours -1 minute")
        purge_old_samples()
        found = {(each.process, each.instance): each.samples for each in read()}
        assert found == {
            ("api", "gone"): {"counters": {KEY: 8}},
            ("worker", "gone"): {"counters": {KEY: 3, OTHER_KEY: 0.25}},
            ("worker", kept.instance): {"counters": {KEY: 4}},
        }
        purge_old_samples()
        assert {(each.process, each.instance): each.samples for each in read()} == found

    def test_a_process_that_counted_nothing_goes_as_well(self) -> None:
        process = Process("worker")
        insert_samples(process, samples({}))
        age(process, "25 hours")
        purge_old_samples()
        assert [each.samples for each in read()] == [{"counters": {}}]

    def test_many_are_purged_in_batches(self) -> None:
        processes = [Process("worker") for _ in range(PURGE_BATCH + 1)]
        with transaction():
            for each in processes:
                insert_samples(each, samples({KEY: 1}))
                age(each, f"{KEEP_HOURS} hours 1 second")
        assert purge_old_samples()
        assert len(read()) == 2
        assert totals("worker") == {KEY: PURGE_BATCH + 1}
        assert not purge_old_samples()
        assert totals("worker") == {KEY: PURGE_BATCH + 1}

    def test_purges_at_once_lose_nothing_and_no_scrape_sees_a_counter_fall(self) -> None:
        seed = random.randrange(10**6)
        chance = random.Random(seed)
        expected = 0
        for _ in range(60):
            process, counted = Process("worker"), chance.randrange(100)
            insert_samples(process, samples({KEY: counted, OTHER_KEY: 0.5}))
            expected += counted
            # They come of age one after the other, so that each purge finds some.
            age(process, f"{KEEP_HOURS} hours {chance.uniform(-0.5, 0.1):.3f} seconds")
        with ThreadPoolExecutor(5) as threads:
            purges = [threads.submit(purge_old_samples) for _ in range(40)]
            seen = [totals("worker") for _ in range(40)]
            for purge in purges:
                purge.result()
        assert {each[KEY] for each in seen} == {expected}, f"seed {seed}"
        assert {each[OTHER_KEY] for each in seen} == {30}, f"seed {seed}"
        with transaction():
            with_name = rows("SELECT count(*) AS n FROM process_metrics WHERE gone")[0]["n"]
        assert with_name == 1
