"""What a stage asks of a model and what it gets back, whichever model it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the document a stage should produce.

    Attributes:
        heading: the heading's text, without Markdown marks.
        questions: what a good section answers.
    """

    heading: str
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything a provider may use to write one document.

    Attributes:
        system: the rendered system message (who is speaking, to which standard).
        user: the rendered prompt of the stage.
        max_tokens: budget for reasoning and answer together, in tokens.
        workflow_title: the workflow's title, for people.
        stage_key: the stage's key, such as ``research``.
        stage_title: the stage's title, for people.
        request: what the person asked for.
        brand: the brand's fields by name, in the order in which people read them, or None.
        project: the project's fields likewise, or None.
        sections: the outline of the document.
        feedback: what a reviewer asked to change, or None.
        earlier: keys and titles of the stages whose documents this one builds on.
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
    """A document as a provider wrote it.

    Attributes:
        text: Markdown; never empty.
        provider: the provider's name, such as ``kimi``.
        model: the model that answered, or None where there is none.
        prompt_tokens: tokens read, or None where the provider does not count.
        completion_tokens: tokens written, reasoning included, or None.
        truncated: True when the token budget, or a content filter, ended the document before its author did.
    """

    text: str
    provider: str
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    truncated: bool = False


class Provider(Protocol):
    """Something that writes documents. One instance serves all calls of a process, on one event loop."""

    @property
    def name(self) -> str:
        """The provider's name, the key of its row in the table ``providers``."""
        ...

    @property
    def model(self) -> str | None:
        """The model asked for, or None."""
        ...

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Write one document.

        Args:
            assignment: what to write.
            on_text: called on the event loop with each further piece of the answer's text as it is written, an empty
                one where the model says what is no part of it;
                it must not block.

        Returns:
            The whole document.

        Raises:
            LLMError: the call failed; the error says whether another try makes sense.
            asyncio.CancelledError: the task was canceled; the connection is closed at once.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. The provider cannot be used afterwards."""
        ...
