"""Examples of requests and responses: recorded from an API that works, and shown in the OpenAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("examples.json")


def examples() -> dict[str, dict[str, Any]]:
    """Return the examples by ``operationId``: a ``request`` where there is a body, and a ``response``."""
    found: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found
