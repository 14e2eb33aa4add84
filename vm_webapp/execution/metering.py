"""Counts what a model call uses while it runs, so that its usage is known however the call ends."""

from __future__ import annotations

from vm_webapp.llm.base import Assignment, Completion, PartialCompletion
from vm_webapp.prices import PriceTable
from vm_webapp.usage.calls import CallUsage

# For servers that send no usage. Measured with OpenAI's cl100k, bytes a token: Markdown and English prose 3.7 to 4.6,
# German 3.7, Russian 4.6, Chinese 2.5.
BYTES_PER_TOKEN = 4


class CallMeter:
    """Counts the tokens of one attempt's model call.

    The server's own counts are taken where it sends them; else they are estimated. Text that is streamed has about a
    token in each piece, reasoning as well, whose text is not seen here: the number of pieces is the least that was
    written.

    Args:
        prices: what calls cost, None to count tokens only.
    """

    def __init__(self, prices: PriceTable | None) -> None:
        self._prices = prices
        self._model: str | None = None
        self._assignment: Assignment | None = None
        self._pieces = 0
        self._bytes = 0
        self._ended: Completion | PartialCompletion | None = None
        self._counted: CallUsage | None = None

    @property
    def currency(self) -> str | None:
        """The currency of ``CallUsage.money``, None without prices."""
        return self._prices.currency if self._prices else None

    def begin(self, model: str | None, assignment: Assignment) -> None:
        """Note that a call begins.

        Args:
            model: the model that is called; None where none is, and nothing is counted then.
            assignment: what is sent.
        """
        self._model = model
        self._assignment = assignment

    def add(self, text: str) -> None:
        """Count a piece that has arrived; it is empty for a piece of reasoning."""
        self._pieces += 1
        self._bytes += len(text.encode(errors="replace"))

    def end(self, ended: Completion | PartialCompletion | None) -> None:
        """Note what the call has returned, or what it had sent when it failed."""
        self._ended = ended

    def usage(self) -> CallUsage | None:
        """Return what the call has used so far; None if no model was called, or it is not known to have begun to write.

        A call that was refused, or abandoned before anything came, counts nothing: nobody knows what the server has
        done.
        """
        if self._counted is not None:
            return self._counted
        usage = self._count()
        if self._ended is not None:
            self._counted = usage  # which is final, and asked for twice: by the metrics and by the statement
        return usage

    def _count(self) -> CallUsage | None:
        prompt = self._ended and self._ended.prompt_tokens
        completion = self._ended and self._ended.completion_tokens
        text = self._ended.text if self._ended else ""
        if self._model is None or self._assignment is None or not (prompt or completion or text or self._pieces):
            return None
        # 0 is no count either: every call has a prompt, and there is text.
        prompt_tokens = prompt or _estimate(self._assignment.system, self._assignment.user)
        completion_tokens = completion or max(self._pieces, -(-self._bytes // BYTES_PER_TOKEN), _estimate(text))
        price = self._prices.price_of(self._model) if self._prices else None
        cached = (self._ended.cached_tokens if self._ended else None) or 0
        money = price.money_for(prompt_tokens, completion_tokens, cached_tokens=cached) if price else None
        return CallUsage(self._model, prompt_tokens, completion_tokens, money, estimated=not (prompt and completion))


def _estimate(*texts: str) -> int:
    """Return about how many tokens texts have."""
    return -(-sum(len(text.encode(errors="replace")) for text in texts) // BYTES_PER_TOKEN)
