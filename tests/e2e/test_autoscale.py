"""The number of workers follows the load, with real processes behind a fake of the platform's API; nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.fakes.render import KEY, SERVICE, FakeRender
from tests.fakes.worker_instances import WorkerInstances
from tests.support.commands import command
from tests.support.deployment import address_of
from tests.support.processes import Program, frozen, program
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp.db.pool import transaction
from vm_webapp.loops import Loop
from vm_webapp.ops.autoscale import policy
from vm_webapp.ops.autoscale.decider import Decider
from vm_webapp.ops.autoscale.decisions import read_signal
from vm_webapp.ops.autoscale.platform import Render
from vm_webapp.ops.autoscale.scaler import Scaler
from vm_webapp.ops.autoscale.shapes import Limits
from vm_webapp.settings import Settings

STAGES = 2
TOKEN = "a-token-of-the-tests"
MOST_SECONDS = 60.0


def scaling_environment(env: dict[str, str], platform: FakeRender, **further: str) -> dict[str, str]:
    """Return the environment of a process that scales."""
    return env | {
        "RENDER_API_KEY": KEY,
        "RENDER_API_URL": platform.url,
        "VM_AUTOSCALE_SERVICE_ID": SERVICE,
        **further,
    }


@contextmanager
def workers(env: dict[str, str], model: ModelServer, folder: Path, threads: int) -> Iterator[WorkerInstances]:
    """Keep real workers during the block; begin when the first one works."""
    worker_env = env | {
        "KIMI_API_KEY": "sk-test-key",
        "KIMI_BASE_URL": model.base_url,
        "VM_WORKER_THREADS": str(threads),
    }
    with WorkerInstances(worker_env, folder) as instances:
        instances.keep(1)
        eventually(lambda: read("SELECT 1 FROM worker_heartbeats WHERE state = 'working'"), "a worker", seconds=30)
        yield instances


@dataclass
class Load:
    """What was added, and what was seen meanwhile.

    Attributes:
        runs: how many were added.
        ages: for how long the oldest stage had been due, again and again.
    """

    runs: int
    ages: list[float]


def follow(
    instances: WorkerInstances,
    platform: FakeRender,
    *,
    runs: int,
    most: int,
    every: float,
    seconds: float,
    on_all: Callable[[], None] = lambda: None,
) -> Load:
    """Add runs, and once they are completed one more from time to time, until all workers have gone but two.

    Then the last runs end, and all workers go but one: while a stage is in flight, the minimum is there on top.

    Args:
        runs: how many come at once.
        most: how many workers they need.
        every: seconds between the later ones, which workers that end still have in flight.
        seconds: the longest wait.
        on_all: called once so many workers work.
    """
    for _ in range(runs):
        create()
    load, added_at, all_there = Load(runs, []), time.monotonic(), False

    def is_over() -> bool:
        nonlocal added_at, all_there
        with transaction():
            signal = read_signal()
        load.ages.append(signal.oldest_due_seconds)
        if signal.workers == most and not all_there:
            all_there = True
            on_all()
        gone = platform.instances <= 2 and most in platform.numbers
        if not gone and not signal.queued and time.monotonic() - added_at >= every:
            create()
            load.runs, added_at = load.runs + 1, time.monotonic()
        return gone and platform.instances == 1 and signal.queued + signal.running == 0

    eventually(is_over, "the work is done and the workers are gone", seconds=seconds, every=0.1)
    numbers = platform.numbers
    assert max(numbers) == most
    assert all(before - after <= 1 for before, after in pairwise(numbers)), "one goes at a time"
    for each in instances.ended:
        assert each.wait(seconds=30) == 0, each.output()
    return load


def check_work(model: ModelServer, runs: int) -> None:
    """Check that nothing was lost, done twice or counted as a failure."""
    stages = read("SELECT status, count(*) AS stages, sum(failures) AS failures FROM stages GROUP BY status")
    assert stages == [{"status": "completed", "stages": STAGES * runs, "failures": 0}]
    assert read("SELECT status, count(*) AS runs FROM runs GROUP BY status") == [{"status": "completed", "runs": runs}]
    assert read("SELECT count(*) AS artifacts FROM artifacts") == [{"artifacts": STAGES * runs}]
    assert model.completed == STAGES * runs
    assert {each["outcome"] for each in read("SELECT outcome FROM scale_calls")} == {"scaled"}


@pytest.mark.usefixtures("database")
def test_workers_come_with_the_load_and_go_without_a_loss(
    env: dict[str, str], model: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the command does it, but for the times: once all workers are there, minutes of the policy are seconds.
    def hurry() -> None:
        monkeypatch.setattr(policy, "IN_AFTER_SECONDS", 2.0)
        monkeypatch.setattr(policy, "STEP_SECONDS", 1.0)

    model.script = lambda _: delayed(0.4)
    limits = Limits(1, 3, 30)
    settings = Settings(worker_threads=4, autoscale_max=3)
    with workers(env, model, tmp_path, 4) as instances, FakeRender(instances.keep) as platform:
        render = Render(KEY, SERVICE, url=platform.url)
        loops = [
            Loop("decide", Decider(settings).run_once, every_seconds=0.5),
            Loop("scale", Scaler(render, SERVICE, limits).run_once, every_seconds=0.5),
        ]
        for loop in loops:
            loop.start()
        try:
            load = follow(instances, platform, runs=60, most=3, every=0.8, seconds=80, on_all=hurry)
        finally:
            for loop in loops:
                assert loop.stop(10)
            render.close()
        assert max(load.ages) < MOST_SECONDS
        assert load.runs > 60, "workers ended while there was work"
        check_work(model, load.runs)


@pytest.mark.only_in_full
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("database")
def test_the_command_follows_a_load_of_500_runs(env: dict[str, str], model: ModelServer, tmp_path: Path) -> None:
    model.script = lambda _: delayed(1.5)
    with workers(env, model, tmp_path, 12) as instances, FakeRender(instances.keep) as platform:
        scaling = scaling_environment(env, platform, VM_WORKER_THREADS="12")
        with program("autoscale", "--max", "4", env=scaling, folder=tmp_path / "autoscale") as running:
            running.says("1 to 4 workers")
            load = follow(instances, platform, runs=500, most=4, every=1.0, seconds=900)
            assert running.stop() == 0
        assert max(load.ages) < MOST_SECONDS
        check_work(model, load.runs)
        print(f"{load.runs} runs; oldest due age: {max(load.ages):.1f} s; {running.output()}")


def scale_lease() -> list[dict[str, object]]:
    return read("SELECT holder, expires_at > clock_timestamp() AS held FROM duty_leases WHERE name = 'scale'")


@pytest.mark.usefixtures("database")
def test_the_command_sets_the_number_and_releases_its_lease_at_the_end(env: dict[str, str], tmp_path: Path) -> None:
    with FakeRender() as platform:
        scaling = scaling_environment(env, platform, VM_AUTOSCALE_MIN="1")
        arguments = ("autoscale", "--min", "2", "--max", "3", "--target-wait-seconds", "5")
        with program(*arguments, env=scaling, folder=tmp_path / "autoscale") as running:
            eventually(lambda: platform.numbers == [2], "the number is set", seconds=20)
            running.says("autoscale.scaled")
            given = [{"min_workers": 2, "max_workers": 3, "target": 5.0}]
            decided = "SELECT min_workers, max_workers, target_wait_seconds AS target FROM autoscale_decision"
            eventually(lambda: read(decided) == given, "decisions keep to what was given")
            assert running.stop() == 0
        said = running.output()
        assert KEY not in said
        assert "Traceback" not in said
        assert [each["held"] for each in scale_lease()] == [False]


@pytest.mark.usefixtures("database")
def test_an_api_with_a_key_and_a_service_scales_and_shows_it(env: dict[str, str], tmp_path: Path) -> None:
    with FakeRender() as platform:
        scaling = scaling_environment(env, platform, VM_AUTOSCALE_MIN="2", VM_API_TOKEN=TOKEN)
        with program("serve", "--port", "0", env=scaling, folder=tmp_path / "api") as api:
            url = address_of(api)
            eventually(lambda: platform.numbers == [2], "the number is set", seconds=20)
            api.says("autoscale.scaled")
            headers = {"Authorization": f"Bearer {TOKEN}"}
            queue = httpx.get(f"{url}/api/v2/queue", headers=headers, trust_env=False).json()
            assert api.stop() == 0
    assert queue["autoscale"]["scaler"]["service"] == SERVICE
    (call,) = queue["autoscale"]["calls"]
    assert (call["service"], call["was"], call["wanted"], call["outcome"]) == (SERVICE, 1, 2, "scaled")
    assert "this is the minimum" in call["detail"]
    assert KEY not in api.output()
    assert [each["held"] for each in scale_lease()] == [False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the workers' service: --service srv-…, or VM_AUTOSCALE_SERVICE_ID"),
        (
            ("--service", "srv-1", "--min", "3", "--max", "2"),
            "the fewest workers (--min or VM_AUTOSCALE_MIN: 3) must be at most the most (--max or VM_AUTOSCALE_MAX: 2)",
        ),
        (
            ("--service", "srv-1", "--min", "11"),
            "the fewest workers (--min or VM_AUTOSCALE_MIN: 11) must be at most the most"
            " (--max or VM_AUTOSCALE_MAX: 10)",
        ),
    ],
)
def test_wrong_usage_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    env = {"RENDER_API_KEY": KEY, "VM_WORKSPACE_ROOT": str(tmp_path / "workspace")}
    ended = command(capsys, env, "autoscale", *arguments)
    assert (ended.code, ended.out, ended.errors) == (2, "", f"vm_webapp: {said}\n")


@pytest.mark.only_in_full
@pytest.mark.usefixtures("database")
def test_another_process_takes_over_from_a_frozen_one_that_sets_nothing_when_it_wakes(
    env: dict[str, str], tmp_path: Path
) -> None:
    with FakeRender() as platform, ExitStack() as stack:
        scaling = scaling_environment(env, platform)

        def start(number: str) -> Program:
            arguments = ("autoscale", "--min", number, "--max", number)
            return stack.enter_context(program(*arguments, env=scaling, folder=tmp_path / number))

        first = start("2")
        eventually(lambda: platform.numbers == [2], "the first sets its number", seconds=30)
        start("3").says("autoscale.stands_by")
        with frozen([first.pid]):
            began = time.monotonic()
            eventually(lambda: platform.numbers == [2, 3], "the second sets its number", seconds=40)
            assert time.monotonic() - began < 12 + 1  # for the call, and the machine
            (holder,) = scale_lease()
        first.says("autoscale.stands_by")
        assert platform.numbers == [2, 3]
        assert scale_lease() == [holder]
