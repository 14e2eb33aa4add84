"""Waits for a model call and counts it: what it uses, how long it takes, when its first token comes, how it ends."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future

from vm_webapp.errors import VMError
from vm_webapp.execution.metering import CallMeter
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.metrics import count_cost, count_tokens, observe_call
from vm_webapp.runs.lifecycle import Claim


class MeasuredCall:
    """A model call, from now on. That of a stage that needs no model is not counted in a metric.

    Args:
        claim: the attempt that calls.
        meter: counts what the call uses.
        model: the model that it asks for, None where the provider names none.
        assignment: what it sends.
    """

    def __init__(self, claim: Claim, meter: CallMeter, model: str | None, assignment: Assignment) -> None:
        self._claim = claim
        self._meter = meter
        self._model = model
        self._began = time.monotonic()
        self._first: float | None = None
        meter.begin(model, assignment)

    def note_piece(self, text: str) -> None:
        """Note that a piece has come; ``text`` is empty for a piece of reasoning."""
        if self._first is None:
            self._first = time.monotonic()
        self._meter.add(text)

    def wait(self, future: Future[Completion]) -> Completion:
        """Wait until the call has ended, and count it.

        Raises:
            CancelledError: the call was abandoned.
            LLMError: it failed.
        """
        try:
            completion = future.result()
        except BaseException as error:
            self._meter.end(getattr(error, "partial", None))
            self._count(_outcome(error))
            raise
        self._meter.end(completion)
        self._count("ok")
        return completion

    def _count(self, outcome: str) -> None:
        provider = self._claim.provider
        if provider is None:
            return
        observe_call(
            provider,
            self._model,
            self._claim.workflow.name,
            self._claim.key,
            outcome=outcome,
            seconds=time.monotonic() - self._began,
            first_after=None if self._first is None else self._first - self._began,
        )
        if usage := self._meter.usage():
            count_tokens(provider, usage.model, prompt=usage.prompt_tokens, completion=usage.completion_tokens)
            if self._meter.currency and usage.money is not None:
                count_cost(usage.model, self._meter.currency, float(usage.money))


def _outcome(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        return "abandoned"
    return error.code if isinstance(error, VMError) else "internal_error"
