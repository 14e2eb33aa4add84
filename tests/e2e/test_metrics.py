"""Two APIs and three workers, of which one dies: every scrape, of either API, shows what all of them have counted."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.model_server import ModelServer
from tests.support.deployment import address_of, managed_environment
from tests.support.fleet import change
from tests.support.processes import program
from tests.support.runs import create, read, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.fleet.process_metrics import purge_old_samples

TOKEN = "a-token-of-the-tests"
RUNS = 6
PRICES = '{"currency": "USD", "models": {"*": {"prompt": 1, "completion": 2}}}'
OLDEST_SECONDS = 10.0
Labels = tuple[tuple[str, str], ...]


class Scrapes:
    """Scrapes APIs in turn, and checks that no counter of the fleet ever falls."""

    def __init__(self, *urls: str) -> None:
        self._urls = list(urls)
        self._before: dict[tuple[str, Labels], float] = {}
        self.instances: set[tuple[str, str]] = set()

    def sums(self) -> dict[tuple[str, Labels], float]:
        """Scrape the next API; return the sum of each counter and bucket over all processes, without their names."""
        self._urls.append(self._urls.pop(0))
        response = httpx.get(f"{self._urls[0]}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
        found: dict[tuple[str, Labels], float] = defaultdict(float)
        self.instances = set()
        for family in text_string_to_metric_families(response.raise_for_status().text):
            for sample in family.samples:
                labels = dict(sample.labels)
                if instance := labels.pop("instance", None):
                    self.instances.add((labels["process"], instance))
                    if family.type in ("counter", "histogram"):
                        found[sample.name, tuple(sorted(labels.items()))] += sample.value
        fallen = {key: (value, found[key]) for key, value in self._before.items() if found[key] < value - 1e-6}
        assert not fallen
        self._before = found
        return found

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a counter over all series that have these labels."""
        return sum(
            value
            for (sample, has), value in self.sums().items()
            if sample == name and labels.items() <= dict(has).items()
        )


def _published() -> set[str]:
    """Return the ids of the processes that have published what they count."""
    return {each["pid"] for each in read("SELECT split_part(instance, ':', 2) AS pid FROM process_metrics")}


def test_either_api_shows_all_processes_and_no_counter_falls_when_one_dies(
    database: str, redis_url: str, model: ModelServer, tmp_path: Path
) -> None:
    further = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url, "VM_MODEL_PRICES": PRICES}
    env = managed_environment(database, redis_url, tmp_path, VM_API_TOKEN=TOKEN, VM_WORKER_THREADS="2", **further)
    with ExitStack() as stack:
        apis = [
            stack.enter_context(program("serve", "--port", "0", env=env, folder=tmp_path / f"api-{number}"))
            for number in (1, 2)
        ]
        workers = [
            stack.enter_context(program("worker", env=env, folder=tmp_path / f"worker-{number}"))
            for number in (1, 2, 3)
        ]
        scrapes = Scrapes(*map(address_of, apis))
        pids = {str(each.pid) for each in (*apis, *workers)}
        eventually(lambda: _published() >= pids, "all publish", seconds=30)
        assert _published() == pids
        # Runs of two stages and a review between them, which nobody makes here; some of three stages without one.
        runs = [create("plan_90d", auto_approve=True).run.id for _ in range(RUNS)]
        assert all(wait_until_still(run, seconds=30).status == "completed" for run in runs)
        ended = time.monotonic()
        eventually(lambda: scrapes.total("vm_runs_finished_total", outcome="completed") == RUNS, "it shows", seconds=30)
        assert time.monotonic() - ended <= OLDEST_SECONDS
        assert len(scrapes.instances) == 5
        assert scrapes.total("vm_stages_finished_total", workflow="plan_90d", outcome="completed") == 3 * RUNS
        assert scrapes.total("vm_stage_queue_seconds_count", workflow="plan_90d") == 3 * RUNS
        assert scrapes.total("vm_model_calls_total", outcome="ok") == scrapes.total("vm_stage_model_seconds_count") > 0
        tokens = scrapes.total("vm_model_tokens_total", kind="prompt")
        cost = (tokens + 2 * scrapes.total("vm_model_tokens_total", kind="completion")) / 1_000_000
        assert abs(scrapes.total("vm_model_cost_total", currency="USD") - cost) < 1e-4

        # A worker dies. What it had counted stays, first under its name, then under that of all that are gone.
        workers[0].kill()
        (dead,) = read(
            "SELECT instance FROM process_metrics WHERE split_part(instance, ':', 2) = %(pid)s::text",
            pid=workers[0].pid,
        )
        assert scrapes.total("vm_runs_finished_total") == RUNS
        assert ("worker", dead["instance"]) in scrapes.instances
        change(
            "UPDATE process_metrics SET written_at = written_at - interval '25 hours' WHERE instance = %(name)s",
            name=dead["instance"],
        )
        purge_old_samples()
        assert scrapes.total("vm_runs_finished_total") == RUNS
        assert ("worker", "gone") in scrapes.instances
        assert ("worker", dead["instance"]) not in scrapes.instances

        # Those that end in good order publish what they have counted since.
        last = create("plan_90d", auto_approve=True).run.id
        assert wait_until_still(last, seconds=30).status == "completed"
        assert [worker.stop() for worker in workers[1:]] == [0, 0]
        assert scrapes.total("vm_runs_finished_total") == RUNS + 1
        assert [api.stop() for api in apis] == [0, 0]
