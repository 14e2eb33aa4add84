"""An API process decides on the number of workers; another one goes on when it is killed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.deployment import address_of, managed_environment
from tests.support.processes import program
from tests.support.runs import create, read
from tests.support.waiting import eventually

TAKEN_OVER_SECONDS = 20.0
HOLDER = "SELECT holder FROM duty_leases WHERE name = 'decide' AND expires_at > clock_timestamp()"
DECIDED = "SELECT decided_at FROM autoscale_decision"


@pytest.mark.only_in_full
def test_another_process_decides_when_the_one_that_did_is_killed(
    database: str, redis_url: str, model: ModelServer, tmp_path: Path
) -> None:
    model.script = lambda body: delayed(1.0)
    further = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url, "VM_API_TOKEN": "t" * 32}
    env = managed_environment(database, redis_url, tmp_path, **further, VM_WORKER_THREADS="2", VM_AUTOSCALE_MAX="3")
    with ExitStack() as stack:
        apis = [
            stack.enter_context(program("serve", "--port", "0", env=env, folder=tmp_path / name))
            for name in ("one", "two")
        ]
        stack.enter_context(program("worker", env=env, folder=tmp_path / "worker"))
        urls = [address_of(api) for api in apis]
        for _ in range(150):
            create("content_calendar", auto_approve=True)
        headers = {"Authorization": f"Bearer {'t' * 32}"}

        def queue(url: str) -> dict[str, object]:
            return dict(httpx.get(f"{url}/api/v2/queue", headers=headers).json())

        eventually(lambda: queue(urls[0])["desired_workers"] == 3, "more workers are desired", seconds=30)
        eventually(lambda: queue(urls[1])["mean_stage_seconds"], "attempts are measured", seconds=30)
        holder = read(HOLDER)[0]["holder"]
        killed = next(api for api in apis if holder.endswith(f":{api.pid}"))
        killed.kill()
        at, last = time.monotonic(), read(DECIDED)
        eventually(lambda: read(DECIDED) != last, "another one decides", seconds=TAKEN_OVER_SECONDS + 10)
        assert time.monotonic() - at <= TAKEN_OVER_SECONDS
        assert read(HOLDER) != [{"holder": holder}]
        survivor = queue(urls[1 - apis.index(killed)])
        assert (survivor["desired_workers"], survivor["autoscale"]["stale"]) == (3, False)  # type: ignore[index]
