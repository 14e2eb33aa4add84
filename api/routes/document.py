"""The OpenAPI document of all routes."""

from __future__ import annotations

from typing import Any

from api.docs.examples import examples
from api.operations.openapi import describe
from api.routes.links import LINKS
from api.routes.table import ROOT_ROUTES, ROUTES


def openapi_document() -> dict[str, Any]:
    """Return the document: the same in every process of a build."""
    return describe((*ROUTES, *ROOT_ROUTES), links=LINKS, examples=examples())
