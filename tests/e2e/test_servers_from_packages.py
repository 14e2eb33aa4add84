"""Bundled workflows on servers that people run: a LiteLLM proxy, llama.cpp and mlx_lm, with tiny models.

Nothing here is a fake: the servers are released packages, and only the models' weights are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from tests.servers.document import TEXT
from tests.servers.packages import Endpoint, endpoints
from tests.support.processes import program
from tests.support.runs import CATALOG
from tests.support.serving import Served, served
from tests.support.waiting import eventually

# Installing the packages for the first time included.
pytestmark = [pytest.mark.timeout(1_800), pytest.mark.only_in_full]

RUN_SECONDS = 90.0
WRONG_KEY = "sk-wrong-0123456789"


@pytest.fixture(scope="module")
def servers_by_name() -> Iterator[dict[str, Endpoint]]:
    """Every server."""
    with TemporaryDirectory(prefix="vm-tests-") as made, endpoints(Path(made)) as running:
        yield running


class Case(NamedTuple):
    """A call that fails, and what the product is to make of it."""

    server: str
    code: str
    says: str
    env: dict[str, str]


def llm_of(serving: Served) -> dict[str, Any]:
    """Return what readiness says of the provider."""
    llm: dict[str, Any] = serving.client.get("/health/ready").json()["dependencies"]["llm"]
    return llm


@pytest.mark.parametrize("server", ["LiteLLM", "llama.cpp", "mlx_lm", "LiteLLM before llama.cpp"])
def test_every_bundled_workflow_runs_to_its_end(
    servers_by_name: dict[str, Endpoint], server: str, folder: Path
) -> None:
    with served(folder / "workspace", **servers_by_name[server].env()) as serving:
        address = str(serving.client.base_url).removesuffix("/api/v2/")
        for workflow in CATALOG.workflows.values():
            output = folder / workflow.name
            command = ("run", "a plan for a bakery", "--workflow", workflow.name, "--yes", "--base-url", address)
            log = folder / f"log-{workflow.name}"
            with program(*command, "--output", str(output), env={}, folder=log) as running:
                assert running.wait(seconds=120) == 0, running.output()
            texts = {path.name: path.read_text() for path in output.iterdir()}
            names = {f"{number:02}-{stage.artifact_name}": stage for number, stage in enumerate(workflow.stages, 1)}
            assert set(texts) == set(names)
            assert all((texts[name] == TEXT) == stage.needs_model for name, stage in names.items())
            (run,) = serving.client.get("/runs", params={"limit": 1}).json()["items"]
            artifacts = [stage["artifact"] for stage in run["stages"]]
            assert [(each["truncated"], each["note"]) for each in artifacts] == [(False, None)] * len(artifacts)


@pytest.mark.parametrize("server", ["llama.cpp", "mlx_lm", "LiteLLM before llama.cpp"])
def test_a_text_that_the_budget_cuts_off_is_marked(
    servers_by_name: dict[str, Endpoint], server: str, folder: Path
) -> None:
    env = servers_by_name[server].env(KIMI_MAX_TOKENS="30")
    with served(folder / "workspace", **env) as serving:
        run = serving.finished(serving.create_run(), seconds=RUN_SECONDS)
        assert run["status"] == "completed"
        for stage in run["stages"]:
            assert stage["artifact"]["truncated"]
            text = serving.client.get(f"/runs/{run['id']}/artifacts/{stage['key']}").text
            assert text
            assert TEXT.startswith(text)


@pytest.mark.parametrize(
    "case",
    [
        Case("LiteLLM", "llm_unauthorized", "check KIMI_API_KEY", {"KIMI_API_KEY": WRONG_KEY}),
        Case("LiteLLM", "llm_unauthorized", "check KIMI_API_KEY", {"KIMI_MODEL": "relayed-wrong-key"}),
        Case("LiteLLM", "llm_model_not_found", "check KIMI_MODEL", {"KIMI_MODEL": "unknown"}),
        Case("llama.cpp", "llm_unauthorized", "check KIMI_API_KEY", {"KIMI_API_KEY": WRONG_KEY}),
        Case("llama.cpp", "llm_not_found", "check KIMI_BASE_URL", {"KIMI_BASE_URL": "{base_url}/v1"}),
        Case("mlx_lm", "llm_model_not_found", "check KIMI_MODEL", {"KIMI_MODEL": "unknown/model"}),
        Case("mlx_lm", "llm_not_found", "check KIMI_BASE_URL", {"KIMI_BASE_URL": "{base_url}/v1"}),
    ],
    ids=lambda case: f"{case.server}: {case.code} {','.join(case.env.values())}",
)
def test_what_a_person_must_repair_pauses_the_provider_until_then(
    servers_by_name: dict[str, Endpoint], case: Case, folder: Path
) -> None:
    endpoint = servers_by_name[case.server]
    wrong = {name: value.replace("{base_url}", endpoint.base_url) for name, value in case.env.items()}
    with served(folder / "workspace", **endpoint.env(**wrong)) as serving:
        run = serving.finished(serving.create_run(), seconds=RUN_SECONDS)
        assert (run["status"], run["error"]["code"]) == ("failed", case.code)
        assert case.says in run["error"]["message"]
        paused = {"status": "paused", "provider": "kimi", "reason": case.code}
        # Readiness looks at the database every few seconds.
        eventually(lambda: llm_of(serving) == paused, "the provider is paused")
    with served(folder / "workspace", **endpoint.env()) as serving:
        assert serving.client.post("/providers/kimi/resume", json={}).json()["resumed"]
        assert serving.client.post(f"/runs/{run['id']}/retry", json={}).status_code == 200
        assert serving.finished(run["id"], seconds=RUN_SECONDS)["status"] == "completed"


@pytest.mark.parametrize(
    ("server", "model"),
    [
        ("llama.cpp, short", None),
        ("LiteLLM", "short-context"),
        ("LiteLLM", "relayed-short"),
    ],
)
def test_a_prompt_that_is_too_long_fails_for_good_and_pauses_nothing(
    servers_by_name: dict[str, Endpoint], server: str, model: str | None, folder: Path
) -> None:
    endpoint = servers_by_name[server]
    with served(folder / "workspace", **endpoint.env(KIMI_MODEL=model or endpoint.model)) as serving:
        run = serving.finished(serving.create_run(), seconds=RUN_SECONDS)
        assert (run["status"], run["error"]["code"]) == ("failed", "llm_context_exceeded")
        assert "shorten the request, or set KIMI_MAX_TOKENS lower" in run["error"]["message"]
        assert llm_of(serving)["status"] == "ok"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("rate-limited", "llm_rate_limited"),
        ("failing", "llm_overloaded"),
        ("relayed-nowhere", "llm_overloaded"),
        ("breaking-off", "llm_overloaded"),
    ],
)
def test_what_passes_by_itself_is_tried_again_until_it_has_passed(
    servers_by_name: dict[str, Endpoint], model: str, code: str, folder: Path
) -> None:
    endpoint = servers_by_name["LiteLLM"]

    with served(folder / "workspace", **endpoint.env(KIMI_MODEL=model)) as serving:
        run_id = serving.create_run()

        def next_try() -> dict[str, Any] | None:
            events = serving.client.get(f"/runs/{run_id}/events").json()["items"]
            return next((event["data"] for event in events if event["type"] == "stage.retry_scheduled"), None)

        assert eventually(next_try, "the stage is to be tried again", seconds=60)["code"] == code
        assert serving.client.get(f"/runs/{run_id}").json()["finished_at"] is None
    with served(folder / "workspace", **endpoint.env()) as serving:
        assert serving.finished(run_id, seconds=RUN_SECONDS)["status"] == "completed"
