"""Chooses the provider of this process from its settings."""

from __future__ import annotations

from collections.abc import Callable

from vm_webapp.llm.base import Assignment, Completion, Provider
from vm_webapp.llm.errors import LLMNotConfigured
from vm_webapp.llm.offline import OfflineProvider
from vm_webapp.settings import Settings


class MissingProvider:
    """The provider of managed mode without a key: every call fails and says what to set."""

    name = "kimi"
    model: str | None = None

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Fail.

        Raises:
            LLMNotConfigured: always.
        """
        raise LLMNotConfigured("no model is configured: set KIMI_API_KEY on the worker")

    async def aclose(self) -> None:
        """Nothing to close."""


def choose_provider(settings: Settings) -> Provider:
    """Return Kimi if there is a key, else the offline provider, which managed mode never uses."""
    if settings.kimi_api_key:
        # Here, because a process that calls no model needs no HTTP client, nor its memory.
        from vm_webapp.llm.kimi import KimiProvider

        return KimiProvider(
            api_key=settings.kimi_api_key,
            base_url=settings.kimi_base_url,
            model=settings.kimi_model,
            max_tokens=settings.kimi_max_tokens,
            context_tokens=settings.kimi_context_tokens,
        )
    return MissingProvider() if settings.managed else OfflineProvider()
