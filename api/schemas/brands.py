"""The shapes of brands."""

from __future__ import annotations

from api.operations.models import Input
from api.schemas.resources import Lines, Name, Prose, declare
from vm_webapp.context import brands


class BrandIn(Input):
    """A new brand."""

    name: Name
    voice: Prose = ""
    audience: Prose = ""
    products: Lines
    facts: Lines
    forbidden_words: Lines


BRANDS = declare("brand", brands, BrandIn, change="What to change; what is left out stays as it is.")
