"""The smoke test: checks a deployment by executing a test run through the API alone, as a client would."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from vm_webapp.client import ApiClient
from vm_webapp.client.errors import ApiError
from vm_webapp.client.shapes import Event, Run, Writing
from vm_webapp.ops.smoke.failures import StepFailed, describe_response, explain
from vm_webapp.ops.smoke.rollout import POLL_SECONDS, Rollout
from vm_webapp.ops.standstill import paused_provider
from vm_webapp.text import plural_with_verb, single_line

__all__ = ["Smoke", "SmokeOptions", "Step", "StepFailed"]

TIMEOUT_SECONDS = 5.0
RUN_SECONDS = 15.0
QUEUE_SECONDS = 5.0
FIRST_WORDS_SECONDS = 60.0
# Without Redis, over which the model's text is sent while it is written, the first sign is the finished artifact.
ARTIFACT_SECONDS = 300.0
TIMELINE = ("run.created", "stage.queued", "stage.started", "run.started", "stage.completed", "run.completed")
MODEL_WORKFLOW = "content_calendar"
PAUSE_CHECK_SECONDS = 1.0
READINESS_AGE_SECONDS = 1.5
QUEUE_PAUSED = "the queue is paused: python -m vm_webapp queue resume"
OFFLINE = "offline"  # the provider that writes worksheets and calls no model
FINAL = ("completed", "failed", "canceled")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the smoke test that has ended, with its outcome."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class SmokeOptions:
    """What to check.

    Attributes:
        wait_seconds: how long a rollout in progress may take until it is complete, None if none is in progress.
        with_model: whether to make one short call to the model.
        expected_build: the build, or its commit, that API and workers must be of; None for any.
        timeout_seconds: time limit for each response.
    """

    base_url: str
    wait_seconds: float | None
    with_model: bool
    expected_build: str | None = None
    timeout_seconds: float = TIMEOUT_SECONDS


@dataclass
class _Progress:
    """Results of earlier steps that later steps use."""

    dependencies: dict[str, dict[str, Any]] = field(default_factory=dict)
    run: Run | None = None
    unfinished: list[str] = field(default_factory=list)
    stream: asyncio.Task[list[str]] | None = None


class Smoke:
    """One execution of the smoke test.

    Args:
        options: what to check.
        api: a client of the address, without credentials.
        token: returns the token or key to use, None if the API needs none; called after the probes.
        on_step: called with each step as soon as it has ended.
    """

    def __init__(
        self,
        options: SmokeOptions,
        api: ApiClient,
        *,
        token: Callable[[], str | None],
        on_step: Callable[[Step], object],
    ) -> None:
        self._options = options
        self._api = api
        self._rollout = Rollout(api, options.base_url, options.wait_seconds)
        self._token = token
        self._on_step = on_step
        self._progress = _Progress()

    async def run(self) -> list[Step]:
        """Execute the steps up to the first that fails, then cancel the runs that have not finished."""
        checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("live", self._rollout.live),
            ("ready", self._ready),
            ("credentials", self._credentials),
            *([] if self._options.expected_build is None else [("build", self._build)]),
            *([("provider", self._provider)] if self._options.with_model else []),
            ("create", self._create),
            ("worker", self._finish),
            ("stream", self._streamed),
            ("timeline", self._timeline),
            ("artifact", self._artifact),
            ("queue", self._queue),
        ]
        if self._options.with_model:
            checks.append(("model", self._model))
        steps: list[Step] = []
        try:
            for name, check in checks:
                steps.append(await _timed(name, check, self._options.base_url))
                self._on_step(steps[-1])
                if not steps[-1].ok:
                    break
        finally:
            await self._clean_up()
        return steps

    async def _ready(self) -> str:
        self._progress.dependencies = await self._rollout.ready()
        return ", ".join(f"{name} {facts['status']}" for name, facts in self._progress.dependencies.items())

    async def _credentials(self) -> str:
        token = await asyncio.to_thread(self._token)
        if token is not None:
            self._api.use_token(token)
        await self._api.workflows()
        return "accepted" if token else "none needed"

    async def _provider(self) -> str:
        # Before anything else is done, because the call that --with-model asks for cannot be made during a pause.
        await self._refuse_pause()
        return "not paused"

    async def _build(self) -> str:
        assert self._options.expected_build is not None
        return await self._rollout.build(self._options.expected_build)

    async def _create(self) -> str:
        run = await self._api.runs.create(workflow="smoke", request="Smoke test")
        self._progress.run = run
        self._progress.unfinished.append(run["id"])
        # Opened before the run finishes: even a proxy that buffers passes on the stream of a finished run, which ends.
        self._progress.stream = asyncio.create_task(self._follow(run["id"]))
        return f"run {run['id']}"

    async def _finish(self) -> str:
        assert self._progress.run is not None
        run_id = self._progress.run["id"]
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            run = await self._api.runs.read(run_id, wait_seconds=2)
            if run["status"] in FINAL:
                break
            if run["waiting_on"] and run["waiting_on"]["kind"] == "queue_paused":
                raise StepFailed(f"the run is {run['status']}: {run['waiting_on']['detail']}; {QUEUE_PAUSED}")
            if time.monotonic() > deadline:
                waiting = run["waiting_on"]["detail"] if run["waiting_on"] else "the API gives no reason"
                raise StepFailed(f"the run is {run['status']} after {RUN_SECONDS:g} s: {waiting}")
        self._progress.run = run
        self._progress.unfinished.remove(run_id)
        if run["status"] != "completed":
            reason = run["error"]["message"] if run["error"] else "another client canceled it"
            raise StepFailed(f"the run {run['status']}: {reason}")
        return "a worker took it and completed it"

    async def _streamed(self) -> str:
        assert self._progress.stream is not None
        try:
            types = await asyncio.wait_for(self._progress.stream, self._options.timeout_seconds)
        except TimeoutError:
            raise StepFailed("the stream did not end with the run's last event: is it buffered by a proxy?") from None
        if types[-1:] != ["run.completed"]:
            raise StepFailed(f"the stream ended after {types[-1] if types else 'nothing'}, not run.completed")
        return f"{len(types)} events"

    async def _timeline(self) -> str:
        assert self._progress.run is not None
        events = [event async for event in self._api.runs.timeline(self._progress.run["id"])]
        types = [event["type"] for event in events]
        missing = [type for type in TIMELINE if type not in types]
        if missing:
            raise StepFailed(f"the timeline lacks {', '.join(missing)}")
        ids = [event["id"] for event in events]
        if ids != sorted(ids) or types[-1] != "run.completed":
            raise StepFailed("the timeline is out of order")
        return f"{len(types)} events"

    async def _artifact(self) -> str:
        assert self._progress.run is not None
        stage = self._progress.run["stages"][0]
        try:
            content = await self._api.runs.artifact(self._progress.run["id"], stage["key"])
        except ApiError as error:
            raise _refused(error, "the artifact cannot be read") from None
        stored = stage["artifact"]
        if stored is None or hashlib.sha256(content).hexdigest() != stored["sha256"]:
            raise StepFailed("the artifact is not the one that was stored: its digest differs")
        return f"{len(content)} bytes, digest as stored"

    async def _queue(self) -> str:
        deadline = time.monotonic() + QUEUE_SECONDS
        while True:
            queue = await self._api.queue.status()
            if not queue["due"]:
                return "nothing is due"
            # On a deployment in use the queue may never be empty, so this step does not insist on it.
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
        if queue["paused"]:
            raise StepFailed(QUEUE_PAUSED)
        # Nor is a backlog a fault, as long as workers claim what can be claimed: readiness checks that.
        due = f"{plural_with_verb(queue['due'], 'stage')} due, the oldest for {queue['oldest_due_seconds']:.1f} s"
        try:
            llm = (await self._rollout.dependencies()).get("llm", {})
        except (StepFailed, ApiError) as error:
            raise StepFailed(f"{due}: {explain(error, self._options.base_url)}") from None
        if paused := paused_provider({"llm": llm}):
            return f"{due}, while {paused}"
        return f"{due}: it moves"

    async def _model(self) -> str:
        """Start a run that calls the model; its first words pass the step, and the clean-up cancels the run."""
        # A model that obeys costs few tokens, although the workflow asks for a long artifact.
        wanted = "Smoke test: answer with a single short line."
        run = await self._api.runs.create(workflow=MODEL_WORKFLOW, request=wanted)
        self._progress.unfinished.append(run["id"])
        live_text = self._progress.dependencies.get("redis", {}).get("status") == "ok"
        seconds = FIRST_WORDS_SECONDS if live_text else ARTIFACT_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self._words_or_pause(run["id"])
        except TimeoutError:
            run = await self._api.runs.read(run["id"])
            waiting = f": {run['waiting_on']['detail']}" if run["waiting_on"] else ""
            raise StepFailed(f"no text from the model within {seconds:g} s{waiting}") from None
        stage = (await self._api.runs.read(run["id"]))["stages"][0]
        if stage["provider"] == OFFLINE:
            raise StepFailed("no model is called, worksheets are written in its place: set KIMI_API_KEY on the worker")
        return f"{stage['provider']} responds"

    async def _refuse_pause(self) -> None:
        """Fail if nothing can be claimed, or the model not be called, until a pause ends.

        Raises:
            StepFailed: the provider or the queue is paused; the text has the reason and the command that ends it.
        """
        if paused_provider(await self._rollout.dependencies()):
            # Readiness may be a second old, and a pause have been ended since.
            await asyncio.sleep(READINESS_AGE_SECONDS)
            if paused := paused_provider(await self._rollout.dependencies()):
                raise StepFailed(paused)
        if (await self._api.queue.status())["paused"]:
            raise StepFailed(QUEUE_PAUSED)

    async def _words_or_pause(self, run_id: str) -> None:
        """Wait for the model's first words; fail as soon as a pause has begun while the run waits in the queue."""
        words = asyncio.create_task(self._first_words(run_id))
        try:
            while not (await asyncio.wait({words}, timeout=PAUSE_CHECK_SECONDS))[0]:
                run = await self._api.runs.read(run_id)
                if run["waiting_on"] and run["waiting_on"]["kind"] in ("provider_paused", "queue_paused"):
                    await self._refuse_pause()
            await words
        finally:
            words.cancel()
            await asyncio.gather(words, return_exceptions=True)

    async def _first_words(self, run_id: str) -> None:
        async with aclosing(self._stream(run_id)) as events:
            async for event in events:
                # Only the model's text, which is sent while it is written, has no type: it is not an event of the run.
                if "type" not in event or event["type"] == "stage.completed":
                    return
                if event["type"] in ("stage.failed", "stage.retry_scheduled"):
                    raise StepFailed(f"the model's call failed: {event['data'].get('message', event['data'])}")
        raise StepFailed("the stream ended before the model had sent any text")

    async def _clean_up(self) -> None:
        if self._progress.stream is not None:
            self._progress.stream.cancel()
            await asyncio.gather(self._progress.stream, return_exceptions=True)
        for run_id in self._progress.unfinished:
            try:
                await self._api.runs.cancel(run_id)
            except ApiError as error:
                if error.response is not None:  # the run does not exist, or it has finished meanwhile
                    continue
                reason = explain(error, self._options.base_url)
                self._on_step(Step("clean-up", False, 0.0, f"run {run_id} could not be canceled: {reason}"))

    async def _follow(self, run_id: str) -> list[str]:
        return [event["type"] async for event in self._stream(run_id) if "type" in event]

    async def _stream(self, run_id: str) -> AsyncGenerator[Event | Writing, None]:
        try:
            async with aclosing(self._api.runs.stream(run_id).read()) as events:
                async for event in events:
                    yield event
        except ApiError as error:
            raise _refused(error, "the stream was refused") from None


def _refused(error: ApiError, problem: str) -> Exception:
    """Return the error of a step whose request was refused; without a response, the error itself."""
    return error if error.response is None else StepFailed(f"{problem}: {describe_response(error.response)}")


async def _timed(name: str, check: Callable[[], Awaitable[str]], address: str) -> Step:
    began = time.monotonic()
    try:
        detail, ok = await check(), True
    except (StepFailed, ApiError) as error:
        detail, ok = explain(error, address), False
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        # The response is JSON of another shape: from another API, or from another version of this one.
        detail, ok = f"the response is not one of this API ({type(error).__name__}: {error})", False
    return Step(name, ok, round(time.monotonic() - began, 3), single_line(detail))
