"""GET /openapi.json: a valid OpenAPI 3.1 document of every route and of nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import create_app
from api.routes.table import ROUTES
from tests.api.client import NEW_RUN, Api

PREFIX = "/api/v2"


@pytest.fixture
async def document(refusing: Api) -> dict[str, Any]:
    body: dict[str, Any] = (await refusing.get("/openapi.json")).json()
    return body


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, each) for path, methods in document["paths"].items() for method, each in methods.items()]


async def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


async def test_documented_operations_and_routes_are_the_same(refusing: Api, document: dict[str, Any]) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in create_app(refusing.services).router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical.startswith(PREFIX)
    }
    assert {(method.upper(), path) for method, path, _ in operations(document)} == routes
    assert len(routes) == len(ROUTES)


async def test_every_operation_has_a_name_of_its_own_and_a_summary(document: dict[str, Any]) -> None:
    found = [each for _, _, each in operations(document)]
    assert len({each["operationId"] for each in found}) == len(found)
    assert all(each["summary"] for each in found)


async def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for _, path, each in operations(document):
        described = {parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


async def test_only_the_probes_are_without_security(document: dict[str, Any]) -> None:
    assert document["security"] == [{"bearer": []}]
    without = {path for _, path, each in operations(document) if each.get("security") == []}
    assert without == {f"{PREFIX}/health/live", f"{PREFIX}/health/ready"}


async def test_times_are_described_as_times(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["RunOut"]["properties"]["created_at"]["format"] == "date-time"


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/runs", {"201", "400", "401", "403", "408", "409", "413", "415", "422", "429", "500", "503"}),
        ("get", "/runs/{run_id}", {"200", "401", "403", "404", "422", "429", "500", "503"}),
        ("get", "/runs/{run_id}/artifacts/{stage}", {"200", "304", "401", "403", "404", "422", "429", "500", "503"}),
    ],
)
async def test_every_possible_status_is_listed(
    document: dict[str, Any], method: str, path: str, statuses: set[str]
) -> None:
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
