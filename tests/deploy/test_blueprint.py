"""The blueprint follows the platform's rules and the product's."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.deploy.blueprint import (
    BLUEPRINT,
    DATABASE,
    GENERATED,
    KEY_VALUE,
    ROOT,
    TYPED_IN,
    database,
    environment,
    service,
)
from vm_webapp.settings import Settings

API, WORKER, KEYVALUE = "vm-webapp-api", "vm-webapp-worker", "vm-webapp-keyvalue"
GATE = ROOT / "deploy" / "pipeline" / "rollout-gate.sh"
LONGEST_SHUTDOWN_SECONDS = 300
GOODBYE_SECONDS = 20

# The keys that we use, all of which the platform knows: it refuses a whole file for one unknown key.
SERVER_KEYS = {
    "type", "name", "runtime", "region", "plan", "numInstances", "autoDeployTrigger", "buildCommand",
    "preDeployCommand", "startCommand", "healthCheckPath", "maxShutdownDelaySeconds", "envVars",
}  # fmt: skip
KEYVALUE_KEYS = {"type", "name", "region", "plan", "maxmemoryPolicy", "persistenceMode", "ipAllowList"}
DATABASE_KEYS = {"name", "region", "plan", "postgresMajorVersion", "databaseName", "user", "ipAllowList"}


def test_there_are_three_services_and_a_database() -> None:
    assert set(BLUEPRINT) == {"envVarGroups", "services", "databases"}
    assert {each["name"]: each["type"] for each in BLUEPRINT["services"]} == {
        API: "web",
        WORKER: "worker",
        KEYVALUE: "keyvalue",
    }
    assert len(BLUEPRINT["databases"]) == 1


@pytest.mark.parametrize(
    ("thing", "known"),
    [
        (service(API), SERVER_KEYS),
        (service(WORKER), SERVER_KEYS),
        (service(KEYVALUE), KEYVALUE_KEYS),
        (database(), DATABASE_KEYS),
    ],
    ids=[API, WORKER, KEYVALUE, "postgres"],
)
def test_every_key_is_one_that_the_platform_knows(thing: dict[str, object], known: set[str]) -> None:
    assert set(thing) <= known


def test_everything_is_in_one_region_because_private_addresses_work_only_within_one() -> None:
    assert len({each["region"] for each in (*BLUEPRINT["services"], *BLUEPRINT["databases"])}) == 1


def test_the_start_commands() -> None:
    assert service(API)["startCommand"] == "uv run python -m vm_webapp serve --host 0.0.0.0 --port $PORT"
    assert service(WORKER)["startCommand"] == "uv run python -m vm_webapp worker --poll-interval-ms 500"


def test_migrations_run_once_before_the_new_build_takes_traffic() -> None:
    assert service(API)["preDeployCommand"] == "uv run python -m vm_webapp migrate up"
    assert "preDeployCommand" not in service(WORKER)


def test_a_dependency_that_is_down_does_not_take_the_api_down() -> None:
    assert service(API)["healthCheckPath"] == "/api/v2/health/live"


@pytest.mark.parametrize("name", [API, WORKER])
def test_the_variables_of_a_service(name: str) -> None:
    given = environment(name)
    scaling = {"RENDER_API_KEY": TYPED_IN, "VM_AUTOSCALE_SERVICE_ID": TYPED_IN}
    own = {"VM_DRAIN_SECONDS": "280"} if name == WORKER else scaling
    versions = {key: given.pop(key) for key in ("PYTHON_VERSION", "UV_VERSION")}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    assert given == own | {
        "APP_ENV": "production",
        "VM_ENABLE_MANAGED_MODE": "true",
        "VM_DB_URL": DATABASE,
        "VM_REDIS_URL": KEY_VALUE,
        "VM_WORKSPACE_ROOT": "/var/data/vm",
        "VM_API_TOKEN": GENERATED,
        "KIMI_MODEL": Settings().kimi_model,
        "KIMI_BASE_URL": Settings().kimi_base_url,
        "KIMI_API_KEY": TYPED_IN,
        "VM_AUTOSCALE_MIN": "1",
        "VM_AUTOSCALE_MAX": "5",
        "VM_AUTOSCALE_TARGET_WAIT_SECONDS": "30",
        "UV_COMPILE_BYTECODE": "1",
        "UV_NO_SYNC": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_the_python_is_one_that_the_package_supports() -> None:
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert environment(API)["PYTHON_VERSION"] in SpecifierSet(supported)


def test_one_secret_is_generated_two_are_typed_in_and_none_is_in_the_file() -> None:
    listed = [variable for group in BLUEPRINT["envVarGroups"] for variable in group["envVars"]]
    listed += [variable for name in (API, WORKER) for variable in service(name)["envVars"]]
    assert [each["key"] for each in listed if each.get("generateValue")] == ["VM_API_TOKEN"]
    assert [each["key"] for each in listed if each.get("sync") is False] == [
        "KIMI_API_KEY",
        "RENDER_API_KEY",
        "VM_AUTOSCALE_SERVICE_ID",
    ]
    secret = re.compile("TOKEN|KEY$|URL$|PASSWORD|SECRET")
    assert {each["key"] for each in listed if "value" in each and secret.search(each["key"])} == {"KIMI_BASE_URL"}


def test_a_worker_has_time_to_drain_and_stop_before_the_platform_kills_it() -> None:
    given = service(WORKER)["maxShutdownDelaySeconds"]
    assert given <= LONGEST_SHUTDOWN_SECONDS
    assert int(environment(WORKER)["VM_DRAIN_SECONDS"]) + GOODBYE_SECONDS <= given


def test_hints_are_never_evicted_and_the_servers_cannot_be_reached_from_outside() -> None:
    assert service(KEYVALUE)["maxmemoryPolicy"] == "noeviction"
    assert service(KEYVALUE)["ipAllowList"] == []
    assert database()["ipAllowList"] == []


def test_values_that_yaml_would_read_as_another_type_are_quoted() -> None:
    assert database()["postgresMajorVersion"] == "18"
    assert service(KEYVALUE)["persistenceMode"] == "off"
    for group in BLUEPRINT["envVarGroups"]:
        assert all(isinstance(each.get("value", ""), str) for each in group["envVars"])


def test_no_service_has_a_disk_which_would_end_deploys_without_downtime() -> None:
    assert not [each["name"] for each in BLUEPRINT["services"] if "disk" in each]


@pytest.mark.parametrize("name", [API, WORKER])
def test_both_services_are_built_in_the_same_way_from_the_lock_alone(name: str) -> None:
    steps = service(name)["buildCommand"].split(" && ")
    assert steps == [
        "pip install uv==$UV_VERSION",
        "uv pip install --require-hashes -r requirements.lock",
        "uv pip install --no-deps .",
        "python -m compileall -q actors api vm_webapp",
    ]


@pytest.mark.parametrize("missing", ["BASE_URL", "VM_API_TOKEN"])
def test_the_gate_names_the_variable_that_is_missing(missing: str) -> None:
    env = {"PATH": os.environ["PATH"], "BASE_URL": "http://127.0.0.1:1", "VM_API_TOKEN": "t"}
    del env[missing]
    done = subprocess.run([GATE], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"rollout-gate: set {missing}\n")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, "--wait 300"),
        ({"COMMIT": ""}, "--wait 300"),
        ({"COMMIT": "0123456789abcdef", "WAIT_SECONDS": "60"}, "--wait 60 --expect-build 0123456789abcdef"),
    ],
)
def test_the_gate_runs_the_smoke_test_for_the_commit_if_that_is_known(
    given: dict[str, str], options: str, tmp_path: Path
) -> None:
    # In place of uv: prints the command that the gate would run, and fails as a smoke test may.
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    uv.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASE_URL": "http://api", "VM_API_TOKEN": "hidden", **given}
    done = subprocess.run([GATE], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"run python -m vm_webapp smoke --base-url http://api {options}\n"
