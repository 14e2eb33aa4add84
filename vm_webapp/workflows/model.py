"""A workflow as data, of which each run keeps a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from vm_webapp.digest import digest_of
from vm_webapp.errors import NotFound
from vm_webapp.llm.base import Section


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed attempt is retried.

    Attributes:
        max_failures: number of failed attempts after which the stage fails.
        base_seconds: the first backoff, doubled for each further one.
        max_seconds: the longest backoff.
    """

    max_failures: int = 5
    base_seconds: float = 2.0
    max_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of a workflow.

    Attributes:
        key: unique within the workflow.
        title: for people.
        prompt: the text of the prompt's template.
        requires_approval: whether a person reviews the draft before the next stage begins.
        needs_model: False if the rendered prompt itself is the artifact.
        timeout_seconds: how long an attempt may go on without a piece of text or reasoning from the model.
        max_tokens: token budget of one completion, reasoning included.
        artifact_name: file name of the artifact.
        sections: the outline of the artifact.
    """

    key: str
    title: str
    prompt: str
    requires_approval: bool
    needs_model: bool
    timeout_seconds: float
    max_tokens: int
    artifact_name: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)  # without slots, which leave no place for what is cached
class Workflow:
    """An ordered list of stages.

    Attributes:
        name: unique among the workflows that can be run; its folder's name.
        system: template of the system message (the role that the model takes, and the standard it writes to).
        context: template of the block that follows the prompt of every stage that needs a model.
        stages: in the order in which they run; never empty.
        retry: the policy for each stage.
    """

    name: str
    title: str
    description: str
    system: str
    context: str
    stages: tuple[StageSpec, ...]
    retry: RetryPolicy

    def snapshot(self) -> Mapping[str, Any]:
        """Return the whole workflow as JSON values, texts included: changing the files never changes a run."""
        return self._snapshot

    @cached_property
    def _snapshot(self) -> Mapping[str, Any]:
        # Once: copying it field by field took a quarter of the time in which a run is created.
        return asdict(self)

    @cached_property
    def digest(self) -> bytes:
        """The digest of the snapshot."""
        return digest_of(self.snapshot())

    @classmethod
    def from_snapshot(cls, data: Mapping[str, Any]) -> Workflow:
        """Return the workflow from its ``snapshot``."""
        # Every field is required here: a field added to these classes needs a default for the snapshots of older runs.
        stages = tuple(
            StageSpec(**{**stage, "sections": tuple(_section(section) for section in stage["sections"])})
            for stage in data["stages"]
        )
        return cls(**{**data, "stages": stages, "retry": RetryPolicy(**data["retry"])})

    def position_of(self, key: str) -> int:
        """Return the position of the stage with this key, counted from 1."""
        return next(number for number, stage in enumerate(self.stages, start=1) if stage.key == key)

    def stage(self, key: str) -> StageSpec:
        """Return the stage with this key.

        Raises:
            NotFound: there is none.
        """
        for stage in self.stages:
            if stage.key == key:
                return stage
        raise NotFound(f"the workflow {self.name} has no stage {key}")


def _section(data: Mapping[str, Any]) -> Section:
    return Section(data["heading"], tuple(data["questions"]))
