"""The manifests of ``deploy/autoscale`` parsed for tests, and what Kubernetes and KEDA accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.support.processes import ROOT

FOLDER = ROOT / "deploy" / "autoscale"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = json.loads((SCHEMAS / "kubernetes.json").read_text())
KEDA = json.loads((SCHEMAS / "keda.json").read_text())
MANIFESTS: dict[str, list[dict[str, Any]]] = {
    str(path.relative_to(FOLDER)): list(yaml.safe_load_all(path.read_text())) for path in sorted(FOLDER.rglob("*.yaml"))
}
"""Path below ``deploy/autoscale`` → its documents."""

SCALERS = ("keda/metrics-api.yaml", "keda/postgresql.yaml", "keda/prometheus.yaml")


def found(file: str, kind: str) -> dict[str, Any]:
    """Return the one document of a kind in a file."""
    (document,) = [each for each in MANIFESTS[file] if each["kind"] == kind]
    return document


def pods() -> dict[str, dict[str, Any]]:
    """Return the template of each pod by its file."""
    return {
        file: document["spec"]["template"]
        for file, documents in MANIFESTS.items()
        for document in documents
        if document["kind"] in ("Deployment", "Job")
    }


def container(file: str) -> dict[str, Any]:
    """Return the one container of the pod in a file."""
    (only,) = pods()[file]["spec"]["containers"]
    return dict(only)


def trigger(file: str) -> dict[str, Any]:
    """Return the one trigger of the ScaledObject in a file."""
    (only,) = found(file, "ScaledObject")["spec"]["triggers"]
    return dict(only)


def authentication(file: str) -> list[dict[str, str]]:
    """Return where the parameters of a trigger's authentication come from; empty if it has none."""
    referred = trigger(file).get("authenticationRef")
    if referred is None:
        return []
    given = found(file, "TriggerAuthentication")
    assert given["metadata"]["name"] == referred["name"]
    return list(given["spec"]["secretTargetRef"])


def refusals(document: dict[str, Any]) -> list[str]:
    """Return what Kubernetes, or KEDA's definitions in it, would refuse in a document."""
    kind = f"{document['apiVersion']}/{document['kind']}"
    (schema,) = [each for each in (KUBERNETES, KEDA) if kind in each["kinds"]]
    validator = Draft202012Validator({"$ref": schema["kinds"][kind], "$defs": schema["$defs"]})
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def misused(trigger: dict[str, Any], parameters: list[str]) -> list[str]:
    """Return what the scaler would refuse in a trigger's metadata and in its parameters of authentication."""
    known = KEDA["scalers"][trigger["type"]]
    wrong = [f"{name} in {place}" for name, place in _places(trigger, parameters) if not _belongs(known, name, place)]
    given = {*trigger["metadata"], *parameters}
    wrong += [f"{name} is missing" for name, fact in known.items() if fact["required"] and name not in given]
    for name, value in trigger["metadata"].items():
        if not isinstance(value, str) or value not in (known.get(name, {}).get("enum") or [value]):
            wrong.append(f"{name}: {value!r}")
    return wrong


def _places(trigger: dict[str, Any], parameters: list[str]) -> list[tuple[str, str]]:
    return [(name, "triggerMetadata") for name in trigger["metadata"]] + [(name, "authParams") for name in parameters]


def _belongs(known: dict[str, Any], name: str, place: str) -> bool:
    return name in known and place in known[name]["in"]
