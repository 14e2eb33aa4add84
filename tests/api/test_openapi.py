"""GET /openapi.json: a valid and complete OpenAPI 3.1 document of every route and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from api.app import create_app
from api.routes.document import openapi_document
from api.routes.table import ROOT_ROUTES, ROUTES
from tests.api.client import NEW_RUN, Api
from tests.support.contract_changes import incompatible_changes

PREFIX = "/api/v2"
DOCS = Path(__file__).parents[2] / "docs"
COMMITTED = DOCS / "openapi.json"
RELEASED = DOCS / "openapi.released.json"
CHANGES = DOCS / "changes.md"
# The keywords of JSON Schema 2020-12 that the document uses, and those of OpenAPI beside them. A validator ignores any
# other word, so a constraint under a misspelt one would be none.
KEYWORDS = {
    *("$ref", "type", "const", "enum", "anyOf", "oneOf", "not", "properties", "required", "additionalProperties"),
    *("items", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "title", "description", "default", "examples"),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    # As JSON, because a reader of the document gets that.
    read: dict[str, Any] = json.loads(json.dumps(openapi_document()))
    return read


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, each) for path, methods in document["paths"].items() for method, each in methods.items()]


def schemas(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema of the document, however deep, with its place."""

    def of_schema(place: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        yield place, schema
        for keyword in ("properties",):
            for name, each in schema.get(keyword, {}).items():
                yield from of_schema(f"{place}/{name}", each)
        for keyword in ("anyOf", "oneOf"):
            for index, each in enumerate(schema.get(keyword, ())):
                yield from of_schema(f"{place}/{keyword}/{index}", each)
        for keyword in ("items", "additionalProperties", "not"):
            if isinstance(schema.get(keyword), dict):
                yield from of_schema(f"{place}/{keyword}", schema[keyword])

    def of_part(place: str, part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(part, dict):
            for name, each in part.items():
                if name == "schema":
                    yield from of_schema(place, each)
                elif name not in ("example", "examples"):
                    yield from of_part(f"{place}/{name}", each)
        elif isinstance(part, list):
            for index, each in enumerate(part):
                yield from of_part(f"{place}/{index}", each)

    for name, each in document["components"]["schemas"].items():
        yield from of_schema(name, each)
    yield from of_part("", {name: part for name, part in document["components"].items() if name != "schemas"})
    yield from of_part("", document["paths"])


def examples_of(part: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield every example of the document, with its place and its schema."""
    if isinstance(part, list):
        for index, each in enumerate(part):
            yield from examples_of(each, f"{place}/{index}")
    elif isinstance(part, dict):
        if isinstance(part.get("schema"), dict):
            schema = part["schema"]
            given = [part["example"]] if "example" in part else []
            given += [each["value"] for each in part.get("examples", {}).values()]
            given += schema.get("examples", [])
            yield from ((place, schema, each) for each in given)
        for name, each in part.items():
            if name not in ("example", "examples"):
                yield from examples_of(each, f"{place}/{name}")


async def test_the_document_is_served(refusing: Api, document: dict[str, Any]) -> None:
    assert (await refusing.get("/openapi.json")).json() == document


def test_the_document_is_valid(document: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    assert document["openapi"].startswith("3.1.")
    errors = [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()]
    assert errors == []
    record_property("shown", f"openapi-spec-validator: {len(errors)} errors in docs/openapi.json")


async def test_documented_operations_and_routes_are_the_same(refusing: Api, document: dict[str, Any]) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in create_app(refusing.services).router.routes()
        if route.resource is not None
        and route.method != "HEAD"
        and route.resource.canonical.startswith((PREFIX, "/problems/", "/metrics"))
    }
    assert {(method.upper(), path) for method, path, _ in operations(document)} == routes
    assert len(routes) == len(ROUTES) + len(ROOT_ROUTES)


def test_every_operation_has_a_name_of_its_own_and_a_summary(document: dict[str, Any]) -> None:
    found = [each for _, _, each in operations(document)]
    assert len({each["operationId"] for each in found}) == len(found)
    assert all(each["summary"] for each in found)


def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for _, path, each in operations(document):
        described = {parameter["name"] for parameter in each["parameters"] if parameter.get("in") == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


def test_only_the_probes_and_the_meaning_of_problems_are_without_security(document: dict[str, Any]) -> None:
    assert document["security"] == [{"bearer": []}, {"session": []}]
    without = {path for _, path, each in operations(document) if each.get("security") == []}
    assert without == {f"{PREFIX}/health/live", f"{PREFIX}/health/ready", "/problems/{name}"}


def test_every_schema_has_only_keywords_that_there_are(document: dict[str, Any]) -> None:
    found = list(schemas(document))
    assert len(found) > 300
    for place, each in found:
        Draft202012Validator.check_schema(each)
        assert set(each) <= KEYWORDS, place


def test_the_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    registry: Registry[Any] = Registry().with_resource("urn:document", DRAFT202012.create_resource(document))
    checked = 0
    for place, schema, example in examples_of(document):
        known = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
        formats = Draft202012Validator.FORMAT_CHECKER
        validator = Draft202012Validator(known, registry=registry, format_checker=formats)
        assert [error.message for error in validator.iter_errors(example)] == [], place
        checked += 1
    assert checked > 80


def test_every_json_body_has_an_example(document: dict[str, Any]) -> None:
    without = {
        "ready",
        "read_description",
        "read_first_page",
        "read_page",
    }  # what is down decides the one; the other is this document
    for _, _, each in operations(document):
        if each["operationId"] in without:
            continue
        success = next(response for status, response in each["responses"].items() if status.startswith("2"))
        bodies = [*each.get("requestBody", {}).get("content", {}).items(), *success.get("content", {}).items()]
        for media_type, content in bodies:
            if media_type == "application/json":
                assert "example" in content, each["operationId"]


def test_every_link_leads_to_an_operation_and_gives_it_what_it_has(document: dict[str, Any]) -> None:
    known = {each["operationId"]: each for _, _, each in operations(document)}
    links = [
        link
        for each in known.values()
        for response in each["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert links
    for link in links:
        target = known[link["operationId"]]
        assert set(link.get("parameters", {})) <= {each.get("name") for each in target["parameters"]}
        needed = {each["name"] for each in target["parameters"] if each.get("in") == "path"}
        assert needed <= set(link.get("parameters", {}))
        assert "requestBody" in target or "requestBody" not in link


def test_a_created_run_leads_to_its_events_artifacts_and_decisions(document: dict[str, Any]) -> None:
    created = document["paths"][f"{PREFIX}/runs"]["post"]["responses"]["201"]
    assert {"read_run", "list_events", "list_artifacts", "approve_stage", "request_changes"} <= set(created["links"])


async def test_a_body_is_required_where_a_request_without_one_is_refused(api: Api, document: dict[str, Any]) -> None:
    for method, path, each in operations(document):
        if "requestBody" not in each:
            continue
        nobody = re.sub("{[^}]+}", "01a20c66-c2a9-70b2-9d9f-0558575aa31b", path.removeprefix(PREFIX))
        response = await api.request(method.upper(), nobody, headers={"If-Match": '"1"'})
        refused = response.status in (400, 415, 422)
        assert refused == each["requestBody"]["required"], (path, response.body)


def test_a_change_needs_if_match_and_gives_an_etag(document: dict[str, Any]) -> None:
    change = document["paths"][f"{PREFIX}/brands/{{brand_id}}"]["patch"]
    (header,) = [each for each in change["parameters"] if each.get("name") == "If-Match"]
    assert header["required"]
    assert "ETag" in change["responses"]["200"]["headers"]
    assert {"412", "428"} <= set(change["responses"])


def test_every_post_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    for method, path, each in operations(document):
        names = {parameter.get("name") for parameter in each["parameters"]}
        assert ("Idempotency-Key" in names) == (method == "post"), path


def test_events_can_be_streamed(document: dict[str, Any]) -> None:
    events = document["paths"][f"{PREFIX}/runs/{{run_id}}/events"]["get"]
    assert set(events["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "content" not in events["responses"]["204"]
    assert "Last-Event-ID" in {each.get("name") for each in events["parameters"]}


def test_the_committed_document_is_that_of_the_code(record: bool) -> None:
    text = json.dumps(openapi_document(), indent=1, ensure_ascii=False) + "\n"
    if record:
        COMMITTED.write_text(text, encoding="utf-8")
        pytest.skip("recorded anew: look at the diff")
    assert COMMITTED.read_text(encoding="utf-8") == text, (
        "the contract has changed: uv run pytest tests/api/test_openapi.py --record, and look at the diff"
    )


def test_incompatible_changes_since_the_release_are_named() -> None:
    released = json.loads(RELEASED.read_text(encoding="utf-8"))
    named = CHANGES.read_text(encoding="utf-8").partition("\n## ")[2].partition("\n## ")[0].splitlines()
    found = {f"- `{change}`" for change in incompatible_changes(released, openapi_document())}
    listed = {line for line in named if line.startswith("- `")}
    assert found - listed == set(), f"docs/changes.md does not name: {chr(10).join(sorted(found - listed))}"
    assert listed - found == set(), "docs/changes.md names changes that there are none"


def test_times_are_described_as_times(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["RunOut"]["properties"]["created_at"]["format"] == "date-time"


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        (
            "post",
            "/runs",
            {"201", "400", "401", "403", "408", "409", "413", "414", "415", "417", "422", "429", "431", "500", "503"},
        ),
        ("get", "/runs/{run_id}", {"200", "401", "403", "404", "414", "417", "422", "429", "431", "500", "503"}),
        (
            "get",
            "/runs/{run_id}/artifacts/{stage}",
            {"200", "304", "401", "403", "404", "414", "417", "422", "429", "431", "500", "503"},
        ),
    ],
)
def test_every_possible_status_is_listed(document: dict[str, Any], method: str, path: str, statuses: set[str]) -> None:
    assert set(document["paths"][PREFIX + path][method]["responses"]) == statuses


async def test_responses_have_the_described_fields(api: Api) -> None:
    schemas = (await api.get("/openapi.json")).json()["components"]["schemas"]
    run = (await api.post("/runs", NEW_RUN)).json()
    assert set(run) == set(schemas["RunOut"]["required"]) == set(schemas["RunOut"]["properties"])
    event = (await api.get(f"/runs/{run['id']}/events")).json()["items"][0]
    assert set(event) == set(schemas["EventOut"]["required"])
    problem = (await api.get("/runs?limit=0")).json()
    assert set(problem) == set(schemas["Problem"]["properties"])


async def test_it_takes_no_parameters(refusing: Api) -> None:
    assert (await refusing.get("/openapi.json?format=yaml")).wrong(422, "invalid_parameter") == {"format"}


async def test_an_application_can_be_created_twice(refusing: Api) -> None:
    assert isinstance(create_app(refusing.services), web.Application)
