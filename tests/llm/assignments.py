"""Assignments for the providers' tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vm_webapp.llm.base import Assignment, Section

BRAND: dict[str, Any] = {
    "name": "Molar",
    "voice": "calm",
    "audience": "Owners of dental clinics",
    "products": ["CRM", "Recall"],
    "facts": ["120 clinics use it", "18 % fewer no-shows (2025)"],
    "forbidden_words": ["revolutionary"],
}
PROJECT: dict[str, Any] = {
    "name": "Spring",
    "objective": "50 trials",
    "channels": ["e-mail", "LinkedIn"],
    "starts_on": "2026-03-02",
    "ends_on": "2026-03-29",
}


def an_assignment(**changes: Any) -> Assignment:
    """Return an assignment that differs from the usual one by these fields."""
    usual = Assignment(
        system="You write plans.",
        user="Write a plan.\n\n<request>\nA CRM for dental clinics\n</request>",
        max_tokens=4_000,
        workflow_title="90-day plan",
        stage_key="plan",
        stage_title="The plan",
        request="A CRM for dental clinics",
        sections=(Section("Summary", ("What matters most?",)),),
    )
    return replace(usual, **changes)
