"""The interface of a provider: what a stage sends to it and gets back, whichever model it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the artifact that a stage should produce.

    Attributes:
        heading: the heading's text, without Markdown marks.
        questions: the questions that a good section answers.
    """

    heading: str
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything a provider may use to write one artifact.

    Attributes:
        system: the rendered system message (the role that the model takes, and the standard it writes to).
        user: the rendered prompt of the stage.
        max_tokens: budget for reasoning and text together, in tokens.
        workflow_title: the workflow's title, for people.
        stage_key: the stage's key, such as ``research``.
        stage_title: the stage's title, for people.
        request: what the person asked for.
        brand: the brand's fields by name, in the order in which people read them, or None.
        project: the project's fields likewise, or None.
        sections: the outline of the artifact.
        feedback: what a reviewer asked to change, or None.
        earlier: keys and titles of the stages whose artifacts this one builds on.
    """

    system: str
    user: str
    max_tokens: int
    workflow_title: str
    stage_key: str
    stage_title: str
    request: str
    brand: Mapping[str, Any] | None = None
    project: Mapping[str, Any] | None = None
    sections: Sequence[Section] = field(default=())
    feedback: str | None = None
    earlier: Sequence[tuple[str, str]] = field(default=())


@dataclass(frozen=True, slots=True)
class Completion:
    """The finished text of a model call.

    Attributes:
        text: Markdown; never empty.
        provider: the provider's name, such as ``kimi``.
        model: the model that wrote it, or None where no model was called.
        prompt_tokens: tokens read, or None where the provider does not count.
        completion_tokens: tokens written, reasoning included, or None.
        cached_tokens: how many of the prompt's tokens were in the server's cache, or None.
        truncated: True when the token budget or a content filter cut the text off.
        note: what a reader should know of how the text was written, or None.
    """

    text: str
    provider: str
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    truncated: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class PartialCompletion:
    """What a failed model call had sent. It is shown with the failed attempt and never becomes an artifact.

    Attributes:
        text: Markdown that breaks off; may be empty.
        prompt_tokens: tokens read, or None where the server did not say.
        completion_tokens: tokens written, reasoning included, or None.
        cached_tokens: how many of the prompt's tokens were in the server's cache, or None.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Provider(Protocol):
    """Writes artifacts. One instance serves all calls of a process, on one event loop."""

    @property
    def name(self) -> str:
        """The provider's name, the key of its row in the table ``providers``."""
        ...

    @property
    def model(self) -> str | None:
        """The model that calls request, or None."""
        ...

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Write one artifact.

        Args:
            assignment: what to write.
            on_text: called on the event loop with each piece of text as it arrives, and with an empty string for a
                chunk without text (reasoning, usage); it must not block.

        Returns:
            The completion.

        Raises:
            LLMError: the call failed; the error says whether a retry makes sense.
            asyncio.CancelledError: the task was canceled; the connection is closed at once.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. The provider cannot be used afterwards."""
        ...
