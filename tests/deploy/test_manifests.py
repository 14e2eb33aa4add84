"""The manifests are what Kubernetes and KEDA accept, fit each other, and follow the product's rules."""

from __future__ import annotations

import copy
import re
import shlex
import tomllib
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.deploy.blueprint import BLUEPRINT, ROOT, environment, service
from tests.deploy.manifests import (
    FOLDER,
    MANIFESTS,
    SCALERS,
    authentication,
    container,
    found,
    misused,
    pods,
    refusals,
    trigger,
)

API, WORKER, MIGRATE = "kubernetes/api.yaml", "kubernetes/worker.yaml", "kubernetes/migrate.yaml"
DOCUMENTS = [(file, number) for file, documents in MANIFESTS.items() for number in range(len(documents))]
GOODBYE_SECONDS = 20
SECRETS = {"VM_DB_URL", "VM_REDIS_URL", "KIMI_API_KEY", "VM_API_TOKEN"}
DOCKERFILE = (FOLDER / "kubernetes" / "Dockerfile").read_text()
README = (FOLDER / "README.md").read_text()


def settings() -> dict[str, str]:
    return dict(found("kubernetes/settings.yaml", "ConfigMap")["data"])


@pytest.mark.parametrize(("file", "number"), DOCUMENTS)
def test_a_manifest_is_one_that_the_cluster_accepts(file: str, number: int) -> None:
    assert refusals(MANIFESTS[file][number]) == []


@pytest.mark.parametrize(
    ("file", "kind", "path", "value"),
    [
        (API, "Deployment", "spec.replica", 2),
        (API, "Deployment", "spec.replicas", "2"),
        (API, "Deployment", "spec.template.spec.securityContext.runAsNonroot", True),
        (API, "Service", "spec.ports", [{"port": "http"}]),
        (MIGRATE, "Job", "spec.backofLimit", 2),
        ("keda/metrics-api.yaml", "ScaledObject", "spec.minReplicas", 1),
        ("keda/metrics-api.yaml", "ScaledObject", "spec.triggers", [{"type": "metrics-api"}]),
        ("keda/metrics-api.yaml", "TriggerAuthentication", "spec.secretTargetRefs", []),
    ],
)
def test_a_mistake_would_be_found(file: str, kind: str, path: str, value: Any) -> None:
    document = copy.deepcopy(found(file, kind))
    *above, last = path.split(".")
    inside = document
    for name in above:
        inside = inside[name]
    inside[last] = value
    assert len(refusals(document)) == 1


@pytest.mark.parametrize("file", SCALERS)
def test_a_trigger_has_the_settings_that_its_scaler_knows(file: str) -> None:
    parameters = [each["parameter"] for each in authentication(file)]
    assert misused(trigger(file), parameters) == []
    wrong = copy.deepcopy(trigger(file))
    name = next(iter(wrong["metadata"]))
    wrong["metadata"][name.upper()] = wrong["metadata"].pop(name)
    assert misused(wrong, parameters) == [f"{name.upper()} in triggerMetadata", f"{name} is missing"]


@pytest.mark.parametrize("file", SCALERS)
def test_a_scaler_scales_the_workers_within_the_limits_of_the_settings(file: str) -> None:
    scaled = found(file, "ScaledObject")
    target, worker = scaled["spec"]["scaleTargetRef"], found(WORKER, "Deployment")
    assert (target["name"], scaled["metadata"]["namespace"]) == (
        worker["metadata"]["name"],
        worker["metadata"]["namespace"],
    )
    limits = (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"])
    assert limits == (int(settings()["VM_AUTOSCALE_MIN"]), int(settings()["VM_AUTOSCALE_MAX"]))
    assert "replicas" not in worker["spec"]
    # A number of replicas that was made up is never right; without the number the last one stays.
    assert "fallback" not in scaled["spec"]


def test_a_lost_prometheus_is_not_taken_for_no_load() -> None:
    assert trigger("keda/prometheus.yaml")["metadata"]["ignoreNullValues"] == "false"


def test_services_find_their_pods_and_keda_finds_the_service() -> None:
    for file in (API, WORKER):
        labels = pods()[file]["metadata"]["labels"]
        assert found(file, "Deployment")["spec"]["selector"]["matchLabels"] == labels
    labels = pods()[API]["metadata"]["labels"]
    reached, budget = found(API, "Service"), found(API, "PodDisruptionBudget")
    assert reached["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    (port,), (open_port,) = reached["spec"]["ports"], container(API)["ports"]
    assert port["targetPort"] == open_port["name"]
    assert str(open_port["containerPort"]) == container(API)["command"][-1]
    asked = urlsplit(trigger("keda/metrics-api.yaml")["metadata"]["url"])
    name, namespace = reached["metadata"]["name"], reached["metadata"]["namespace"]
    assert asked.netloc == f"{name}.{namespace}.svc.cluster.local:{port['port']}"


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_dead_worker_takes_no_api_out_of_service(probe: str) -> None:
    asked = container(API)[probe]["httpGet"]
    assert (asked["path"], asked["port"]) == (service("vm-webapp-api")["healthCheckPath"], "http")


def test_a_worker_may_drain_for_as_long_as_it_wants_to() -> None:
    given = {each["name"]: each["value"] for each in container(WORKER)["env"]}
    grace = pods()[WORKER]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= float(given["VM_DRAIN_SECONDS"]) + GOODBYE_SECONDS


@pytest.mark.parametrize("file", sorted(pods()))
def test_a_pod_may_do_only_what_it_must(file: str) -> None:
    pod, only = pods()[file]["spec"], container(file)
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["seccompProfile"]) == (
        True,
        {"type": "RuntimeDefault"},
    )
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "/tmp" in {each["mountPath"] for each in only["volumeMounts"]}
    assert {each["name"] for each in only["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE
    assert only["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("file", sorted(pods()))
def test_settings_come_from_the_shared_ones_and_secrets_by_reference(file: str) -> None:
    assert container(file)["envFrom"] == [
        {"configMapRef": {"name": "vm-webapp"}},
        {"secretRef": {"name": "vm-webapp"}},
    ]
    assert SECRETS.isdisjoint(settings())
    assert SECRETS.isdisjoint(each["name"] for each in container(file).get("env", []))
    for name in SECRETS:
        assert name in README


def test_the_image_is_one_and_the_commands_are_those_of_the_blueprint() -> None:
    assert len({container(file)["image"] for file in pods()}) == 1
    for file, command in {
        API: service("vm-webapp-api")["startCommand"].replace("$PORT", "8766"),
        WORKER: service("vm-webapp-worker")["startCommand"],
        MIGRATE: service("vm-webapp-api")["preDeployCommand"],
    }.items():
        assert ["uv", "run", *container(file)["command"]] == shlex.split(command)


def test_the_settings_are_those_of_the_blueprint() -> None:
    shared = {each["key"]: each.get("value") for each in BLUEPRINT["envVarGroups"][0]["envVars"]}
    ours = settings()
    limits = [name for name in ours if name.startswith("VM_AUTOSCALE_")]
    assert {name: value for name, value in ours.items() if name not in limits}.items() <= shared.items()
    assert environment("vm-webapp-worker")["VM_DRAIN_SECONDS"] == container(WORKER)["env"][0]["value"]


def test_the_image_is_built_as_the_blueprint_builds() -> None:
    build = service("vm-webapp-api")["buildCommand"]
    version = environment("vm-webapp-api")["UV_VERSION"]
    for step in ("uv pip install --require-hashes -r requirements.lock", "uv pip install --no-deps ."):
        assert step in build
        assert step in DOCKERFILE
    assert f"uv=={version} " in DOCKERFILE
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.M) == packages


def test_the_readme_names_every_file() -> None:
    paths = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()} - {"README.md"}
    assert [path for path in sorted(paths) if path not in README] == []
    named = set(re.findall(r"(?:kubernetes|keda)/[\w.-]+", README))
    assert named <= paths
