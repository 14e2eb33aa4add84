"""What schemathesis has to know of this API beside its OpenAPI document; loaded by its command line."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import CheckContext
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import IgnoredAuth
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

# Text that a schema cannot bound, because what there is decides: a request with another is refused, as it should be.
REFERENCES = frozenset(
    {"/workflow", "/brand_id", "/project_id", "/from_stage", "/four_eyes", "/refresh_context", "/ends_on", "cursor", ""}
    | {"/time_zone", "/budget/money", "/day_budget/money", "to"}
)
# Headers of the connection, and those that the document describes as a media type.
OF_HTTP = frozenset({"content-type", "content-length", "transfer-encoding", "date", "connection", "keep-alive"})
LONGEST_WAIT = 30.0


@schemathesis.hook
def before_call(ctx: Any, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Shorten a wait that is valid: that it lasts is tested elsewhere."""
    try:
        if 0 < float((case.query or {}).get("wait", 0)) <= LONGEST_WAIT:
            case.query["wait"] = 0.05
    except (TypeError, ValueError):
        pass


@schemathesis.check
def valid_requests_are_accepted(ctx: CheckContext, response: Response, case: schemathesis.Case[Any]) -> bool | None:
    """Fail if a request that the schema allows is refused for anything but what the schema cannot know."""
    return None if _is_a_matter_of_state(response) else positive_data_acceptance(ctx, response, case)


@schemathesis.check
def credentials_count(ctx: CheckContext, response: Response, case: schemathesis.Case[Any]) -> bool | None:
    """Fail if a request without valid credentials gets anything but a refusal, be it of its many predecessors."""
    try:
        return ignored_auth(ctx, response, case)
    except IgnoredAuth as failure:
        # An address that presents many wrong keys within a minute is refused before the next one is looked at.
        if "got `429" not in failure.message:
            raise
        return None


@schemathesis.check
def every_header_is_documented(ctx: CheckContext, response: Response, case: schemathesis.Case[Any]) -> bool | None:
    """Fail if a response has a header that the document does not name for its status."""
    if case.method.upper() != case.operation.method.upper():
        return None  # a method that the operation does not have
    described = case.operation.definition.raw["responses"].get(str(response.status_code))
    if described is None:
        return None  # status_code_conformance reports it
    document = case.operation.schema.raw_schema
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
    known = {name.lower() for name in described.get("headers", {})}
    unknown = {name.lower() for name in response.headers} - known - OF_HTTP
    assert not unknown, f"undocumented headers of a {response.status_code}: {', '.join(sorted(unknown))}"
    return None


def _is_a_matter_of_state(response: Response) -> bool:
    """Return whether a request is refused because of what there is, and not because of how it is written."""
    if response.status_code == 412:
        return True
    if response.status_code != 422:
        return False
    problem = response.json()
    named = {each.get("pointer", each.get("parameter")) for each in problem.get("errors", [])}
    return problem["type"] == "/problems/idempotency_key_reused" or (bool(named) and named <= REFERENCES)
