"""What brands and projects are called on pages, and the fields of their forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.schemas.brands import BRANDS
from api.schemas.projects import PROJECTS
from api.schemas.resources import ResourceType
from api.ui.context.fields import FormField
from api.ui.places import BRAND_PAGES, PROJECT_PAGES
from vm_webapp.context import Repository


@dataclass(frozen=True, slots=True)
class Kind:
    """Brands, or projects.

    Attributes:
        resource: how the API declares them.
        path: of the page that lists them; below it are all others.
        fields: of the form, in its order; those of ``administration`` come last.
        administration: how their work is administered: no prompt contains it.
        teaching: what one is for, where there is none yet.
    """

    resource: ResourceType
    path: str
    fields: tuple[FormField, ...]
    administration: tuple[FormField, ...]
    teaching: str

    @property
    def noun(self) -> str:
        """What one is called."""
        return self.resource.noun

    @property
    def repository(self) -> Repository[Any]:
        """Where they are stored."""
        return self.resource.repository

    @property
    def all_fields(self) -> tuple[FormField, ...]:
        """Every field of the form."""
        return (*self.fields, *self.administration)


BRAND = Kind(
    BRANDS,
    BRAND_PAGES,
    (
        FormField("name", "Name", "line", example="Pedal Bakery"),
        FormField(
            "voice",
            "Voice",
            "prose",
            "How it speaks, and how it never does.",
            "Warm and short. Says “you”. No superlatives.",
        ),
        FormField("audience", "Audience", "prose", "Who reads it, and what they care about."),
        FormField("products", "Products", "list", "One on each line.", "Sourdough by subscription"),
        FormField(
            "facts",
            "Facts",
            "list",
            "What is true and may be said, one on each line. Reviewers see them beside each draft.",
            "Delivers by bicycle since 2019",
        ),
        FormField(
            "forbidden_words",
            "Forbidden words",
            "list",
            "One on each line. A draft that has one of them is marked.",
            "cheap",
        ),
    ),
    (
        FormField(
            "max_running",
            "Documents at a time",
            "number",
            "How many of its documents may be written at once. Empty: no limit.",
        ),
        FormField(
            "time_zone",
            "Time zone",
            "zone",
            "Where its days begin, for the budget and for what a day has used.",
            "America/Sao_Paulo",
        ),
        FormField(
            "budget",
            "Budget for each day",
            "budget",
            "Once it is used up, its runs wait for the next day. Empty: no limit.",
        ),
    ),
    "A brand says how its texts sound, what is true of it and which words it never uses. Every document of its runs"
    " is written with that in mind, and reviewers see it beside each draft.",
)
PROJECT = Kind(
    PROJECTS,
    PROJECT_PAGES,
    (
        FormField("name", "Name", "line", example="Spring launch"),
        FormField("brand_id", "Brand", "brand", "Its runs are written for this brand."),
        FormField("objective", "Objective", "prose", "What should be different when it is over."),
        FormField("channels", "Channels", "list", "Where it takes place, one on each line.", "Newsletter"),
        FormField("starts_on", "First day", "day"),
        FormField("ends_on", "Last day", "day"),
    ),
    (),
    "A project says what a number of runs are for: an objective, channels, a time. Every document of its runs is"
    " written with that in mind.",
)
KINDS: Mapping[str, Kind] = {kind.noun: kind for kind in (BRAND, PROJECT)}
