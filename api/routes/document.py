"""The OpenAPI document of all routes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from api.docs.examples import examples
from api.operations.openapi import describe
from api.routes.links import LINKS
from api.routes.table import ROOT_ROUTES, ROUTES


def openapi_document() -> dict[str, Any]:
    """Return the document: the same in every process of a build."""
    return describe((*ROUTES, *ROOT_ROUTES), links=LINKS, examples=examples())


def openapi_json() -> str:
    """Return it as JSON, generated once in a process, and only if somebody asks for it."""
    return _as_json()


@cache
def _as_json() -> str:
    return json.dumps(openapi_document())
