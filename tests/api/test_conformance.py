"""Generated requests, valid and invalid ones: every response conforms to the OpenAPI document."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.client import Api

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 5


@pytest.mark.parametrize("mode", list(GenerationMode))
async def test_generated_requests_get_responses_as_described(api: Api, mode: GenerationMode) -> None:
    document = (await api.get("/openapi.json")).json()
    del document["paths"]["/api/v2/health/ready"]  # without a worker it responds 503, as it should
    # This API requires no credentials.
    del document["security"]
    for described in document["paths"].values():
        for each in described.values():
            del each["security"]
    schema = schemathesis.openapi.from_dict(document)

    def send_all() -> None:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            described = operation.definition.raw
            takes_values = any(each["in"] == "query" for each in described["parameters"]) or "requestBody" in described
            if mode is GenerationMode.NEGATIVE and not takes_values:
                continue  # there is nothing to get wrong: any text may be a name

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(base_url=api.base_url, checks=CHECKS)

            send()

    await asyncio.to_thread(send_all)
