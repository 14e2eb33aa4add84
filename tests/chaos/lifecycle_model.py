"""A model of the lifecycle, in memory and without a clock, which the real one is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from vm_webapp.runs.providers import OVERLOADS_BEFORE_PAUSE
from vm_webapp.runs.states import MAX_RESCUES, Failure

ACTIVE = ("queued", "running", "waiting_approval")


@dataclass(eq=False)
class ModelStage:
    """A stage. ``late``: a queued stage that is not due yet, or a running one whose lease has expired."""

    id: UUID
    key: str
    needs_model: bool
    gate: bool
    status: str = "pending"
    late: bool = False
    token: UUID | None = None
    attempt: int = 0
    failures: int = 0
    rescues: int = 0
    releases: int = 0
    feedback: str | None = None
    digests: list[str] = field(default_factory=list)
    completions: int = 0

    def move(self, status: str, *, late: bool = False) -> None:
        """Change the status, and end the lease."""
        self.status, self.late, self.token = status, late, None
        self.completions += status == "completed"

    def start_over(self, status: str) -> None:
        """Change the status, and reset the budgets."""
        self.move(status)
        self.failures = self.rescues = self.releases = 0


@dataclass(eq=False)
class ModelRun:
    """A run.

    Attributes:
        owner: who created it.
        tag: its start tag.
        begun: whether a stage of it has ever been claimed.
    """

    id: UUID
    auto: bool
    stages: list[ModelStage]
    owner: str
    tag: int
    status: str = "queued"
    begun: bool = False

    def advance(self) -> ModelStage | None:
        """Queue the first pending stage, or complete the run."""
        following = next((stage for stage in self.stages if stage.status == "pending"), None)
        if following:
            following.move("queued")
        self.status = "running" if following else "completed"
        return following


@dataclass
class ModelProvider:
    """The provider. ``while`` is a pause with an end, and ``over`` whether that has come; ``person`` one without."""

    paused: Literal["person", "while"] | None = None
    over: bool = False
    consecutive: int = 0
    pauses: int = 0
    probe: UUID | None = None

    def resume(self) -> None:
        """End the pause, and reset the failures."""
        self.paused, self.over, self.consecutive, self.pauses, self.probe = None, False, 0, 0, None

    def fail(self, failure: Failure, token: UUID) -> tuple[bool, bool]:
        """Record a failed call; return whether it costs the stage no failure, and whether the stage must then wait."""
        was_probe = self.probe == token
        if failure.pauses_provider:
            excused = self.paused == "person"
            self.paused, self.over, self.probe = "person", False, None
            return excused, False
        if not failure.overload:
            self.probe = None if was_probe else self.probe
            return False, False
        if self.paused and not was_probe:
            return True, False
        if was_probe or self.consecutive + 1 >= OVERLOADS_BEFORE_PAUSE:
            self.paused, self.over, self.probe = "while", False, None
            self.pauses, self.consecutive = self.pauses + 1, 0
            return True, True
        self.consecutive += 1
        return False, False


@dataclass
class Model:
    """All runs, the provider and the queue."""

    max_failures: int
    runs: list[ModelRun] = field(default_factory=list)
    provider: ModelProvider = field(default_factory=ModelProvider)
    queue_paused: bool = False
    written: set[UUID] = field(default_factory=set)

    def stages(self, *statuses: str) -> list[tuple[ModelRun, ModelStage]]:
        """Return the stages with one of these statuses; without an argument, all stages."""
        return [(r, s) for r in self.runs for s in r.stages if not statuses or s.status in statuses]

    def next_tag(self, owner: str) -> int:
        """Return the start tag of an owner's next run."""
        begun = [run.tag for run in self.runs if run.begun]
        of_owner = [run.tag + 1 for run in self.runs if run.owner == owner and (run.begun or run.status != "canceled")]
        return max([1, *begun, *of_owner])

    def holder(self, token: UUID | None) -> tuple[ModelRun, ModelStage] | None:
        """Return the running stage with this lease token."""
        return next(((r, s) for r, s in self.stages("running") if s.token == token), None)

    def claim(self, run: ModelRun, stage: ModelStage, cap: int | None, token: UUID) -> bool:
        """Claim a stage if it may be claimed; return whether it was."""
        due = stage.status == "queued" and not stage.late and not self.queue_paused
        if not due or (stage.needs_model and not self._admits(cap)):
            return False
        if stage.needs_model and self.provider.paused:
            self.provider.probe = token
        stage.move("running")
        stage.token, stage.attempt = token, stage.attempt + 1
        run.status, run.begun = "running", True
        return True

    def _admits(self, cap: int | None) -> bool:
        if self.provider.paused:
            return self.provider.paused == "while" and self.provider.over and not self.holder(self.provider.probe)
        return cap is None or sum(stage.needs_model for _, stage in self.stages("running")) < cap

    def finish(self, token: UUID, digest: str) -> ModelStage | None:
        """Finish the attempt with this token; return the stage that is due because of it."""
        held = self.holder(token)
        assert held is not None
        run, stage = held
        stage.digests.append(digest)
        self.written.add(token)
        stage.feedback = None
        if stage.needs_model and self.provider.paused != "person":
            self.provider.resume()
        if stage.gate and not run.auto:
            stage.move("waiting_approval")
            run.status = "waiting_approval"
            return None
        stage.move("completed")
        return run.advance()

    def fail(self, token: UUID, failure: Failure) -> str:
        """Fail the attempt with this token; return ``failed`` or ``retrying``."""
        held = self.holder(token)
        assert held is not None
        run, stage = held
        excused, waits = self.provider.fail(failure, token) if stage.needs_model else (False, False)
        if excused:
            stage.move("queued", late=waits)
            return "retrying"
        stage.failures += 1
        if failure.permanent or stage.failures >= self.max_failures:
            stage.move("failed")
            run.status = "failed"
            return "failed"
        stage.move("queued", late=True)
        return "retrying"

    def rescue(self) -> tuple[set[UUID], set[UUID]]:
        """Rescue stages with an expired lease; return the ids of those queued and of those failed."""
        queued, failed = set(), set()
        for run, stage in self.stages("running"):
            if not stage.late:
                continue
            stage.rescues += 1
            if stage.rescues > MAX_RESCUES:
                stage.move("failed")
                run.status = "failed"
                failed.add(stage.id)
            else:
                stage.move("queued")
                queued.add(stage.id)
        return queued, failed

    def cancel(self, run: ModelRun) -> None:
        """Cancel a run that is not final."""
        run.status = "canceled"
        for stage in run.stages:
            if stage.status != "completed":
                stage.move("canceled")

    def retry(self, run: ModelRun, first: ModelStage) -> None:
        """Retry a failed run from a stage."""
        run.status = "queued"
        for stage in run.stages[run.stages.index(first) :]:
            stage.start_over("queued" if stage is first else "pending")
            stage.feedback = None
