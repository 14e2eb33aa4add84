"""The shapes of brands."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.http.values import AS_JSON_WHOLE
from api.operations.models import Input
from api.schemas.resources import Lines, Name, Prose, declare
from vm_webapp.context import brands

Limit = Annotated[
    # The bounds stand next to the number, as in a version: see api/schemas/artifacts.py.
    Annotated[int, Field(ge=1, le=10_000), AS_JSON_WHOLE] | None,
    Field(
        description="How many stages of this brand's runs may run at a time, in all workers; null for any number."
        " Others wait, and runs of other brands overtake them.",
    ),
]


class BrandIn(Input):
    """A new brand."""

    name: Name
    voice: Prose = ""
    audience: Prose = ""
    products: Lines
    facts: Lines
    forbidden_words: Lines
    max_running: Limit = None


BRANDS = declare("brand", brands, BrandIn, change="What to change; what is left out stays as it is.")
