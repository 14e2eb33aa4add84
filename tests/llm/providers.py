"""Clients of the fake model server."""

from __future__ import annotations

from vm_webapp.llm.kimi import KimiProvider

KEY = "sk-secret-Ab12.Cd34-Ef56_Gh78"


def a_provider(base_url: str, *, key: str = KEY) -> KimiProvider:
    """Return a client, which the caller closes."""
    return KimiProvider(api_key=key, base_url=base_url, model="kimi-for-coding")
