"""The pages of the documentation, and what each of them shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from api.docs.facts import ADDRESSES, BODIES, RUN_MEANINGS, STAGE_MEANINGS, WAITING_KINDS
from api.docs.rendering import render
from api.http.problem_types import PROBLEM_TYPES, ProblemType
from api.schemas.events import EVENT_TYPES, STAGE_PROGRESS, STREAM
from vm_webapp.runs.states import RUN_TRANSITIONS, STAGE_TRANSITIONS

PATH = "/api/v2/docs"


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        name: the last part of its address; empty for the first page.
        title: its name for people.
        about: what it explains.
    """

    name: str
    title: str
    about: str = ""

    @property
    def path(self) -> str:
        """Its address."""
        return f"{PATH}/{self.name}" if self.name else PATH


PAGES = (
    Page("", "First run"),
    Page("states", "States", "what a run and its stages go through, and why a run does not move"),
    Page("errors", "Errors", "what each one means, and what to repeat"),
    Page("idempotency", "Idempotency", "how a repeated request has one effect, and how changes do not collide"),
    Page("streams", "Streams", "events as they happen, and every type of them"),
    Page("pagination", "Pagination", "how to read a list page by page"),
    Page("requests", "Requests", "encodings, numbers and addresses, and the answer to odd ones"),
    Page("reference", "Reference", "parameters, bodies and responses of each"),
)
NAMES = frozenset(page.name for page in PAGES if page.name)


def show_page(name: str, *, base: str, description: str) -> str:
    """Return a page as HTML.

    Args:
        name: the last part of its address; empty for the first page.
        base: the address of the API, as its reader has it.
        description: the OpenAPI document as JSON.
    """
    if name == "reference":
        return _reference(description)
    return render(name or "first_run", pages=PAGES, current=name, base=base, **_values_of(name))


def show_problem(problem: ProblemType) -> str:
    """Return the page of a type of problem as HTML."""
    return render("problem", pages=PAGES, current=None, problem=problem)


def _values_of(name: str) -> dict[str, Any]:
    if name == "states":
        return {
            "run_meanings": RUN_MEANINGS,
            "run_transitions": _listed(RUN_TRANSITIONS),
            "stage_meanings": STAGE_MEANINGS,
            "stage_transitions": _listed(STAGE_TRANSITIONS),
            "waiting_kinds": WAITING_KINDS,
        }
    if name == "errors":
        return {"problems": sorted(PROBLEM_TYPES.values(), key=lambda each: each.status or 600), "example": EXAMPLE}
    if name == "streams":
        return {"events": EVENT_TYPES | {"stage.progress": STAGE_PROGRESS}, "stream": STREAM["examples"][0]}
    return {"bodies": BODIES, "addresses": ADDRESSES} if name == "requests" else {}


EXAMPLE = """\
HTTP/1.1 422 Unprocessable Entity
Content-Type: application/problem+json

{
  "type": "/problems/invalid_input",
  "title": "Unprocessable Entity",
  "status": 422,
  "detail": "/request: Field required (and 1 more)",
  "request_id": "7d0b1f0c4b3f4a1e9c55a3b0b6f3c2d1",
  "errors": [
    {"pointer": "/request", "message": "Field required"},
    {"pointer": "/wokflow", "message": "Extra inputs are not permitted"}
  ]
}"""


def _listed(transitions: Mapping[Any, frozenset[Any]]) -> dict[str, str]:
    return {status: ", ".join(sorted(following)) for status, following in transitions.items()}


@lru_cache(maxsize=1)
def _reference(description: str) -> str:
    document = json.loads(description)
    operations = [
        _operation(document, method, path, each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    return render("reference", pages=PAGES, current="reference", document=document, operations=operations)


def _operation(document: dict[str, Any], method: str, path: str, each: dict[str, Any]) -> dict[str, Any]:
    body = each.get("requestBody")
    roles = [role for needed in each["security"] for names in needed.values() for role in names]
    return {
        "operationId": each["operationId"],
        "method": method.upper(),
        "path": path,
        "tags": each["tags"],
        "summary": each["summary"],
        "description": each.get("description", ""),
        "role": roles[0] if roles else None,
        "parameters": [{"description": ""} | _resolved(document, parameter) for parameter in each["parameters"]],
        "body": {"required": body["required"]} | body["content"]["application/json"] if body else None,
        "responses": [_response(document, status, response) for status, response in each["responses"].items()],
    }


def _response(document: dict[str, Any], status: str, response: dict[str, Any]) -> dict[str, Any]:
    found = _resolved(document, response)
    content = {media_type: each["schema"] for media_type, each in found.get("content", {}).items()}
    # A status of an error has the same problems everywhere: their names lead to what they mean.
    problems = [each for each in PROBLEM_TYPES.values() if "$ref" in response and str(each.status) == status]
    return {"status": status, "description": found["description"], "content": content, "problems": problems}


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    resolved: dict[str, Any] = found
    return resolved
