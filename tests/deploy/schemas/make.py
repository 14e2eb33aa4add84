"""Makes the schemas again, from what Kubernetes and KEDA publish.

    git clone --depth 1 --branch v2.20.2 https://github.com/kedacore/keda
    uv run --with kubernetes-validate==1.37.0 python -m tests.deploy.schemas.make keda

Kept are the kinds that the manifests use, without descriptions. ``LICENSE`` is that of both projects.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
VERSION = "v1.35.0-local-strict"
KINDS = {
    "v1/Namespace": "io.k8s.api.core.v1.Namespace",
    "v1/ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1/Service": "io.k8s.api.core.v1.Service",
    "apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment",
    "batch/v1/Job": "io.k8s.api.batch.v1.Job",
    "policy/v1/PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}
CUSTOM = ("scaledobjects", "triggerauthentications")
SCALERS = {"metrics-api": "metrics_api", "postgresql": "postgresql", "prometheus": "prometheus"}
# A field of a scaler's settings in Go: its names, where it may stand, whether it may be missing, what it may be.
TAG = re.compile(r'`keda:"name=([^,"]+),\s*order=([^,"]+)([^"]*)"`')


def kubernetes() -> dict[str, Any]:
    """Return the definitions of the kinds, and of all that these refer to; unknown fields are refused."""
    package = find_spec("kubernetes_validate")
    assert package is not None, "uv run --with kubernetes-validate==1.37.0"
    assert package.origin is not None
    folder = Path(package.origin).parent / "kubernetes-json-schema" / VERSION
    given = json.loads((folder / "_definitions.json").read_text())["$defs"]
    found: dict[str, Any] = {}
    wanted = list(KINDS.values())
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _local(_bare(given[name]))
            wanted += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(found[name]))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "kinds": {kind: f"#/$defs/{name}" for kind, name in KINDS.items()},
        "$defs": dict(sorted(found.items())),
    }


def keda(checkout: Path) -> dict[str, Any]:
    """Return the definitions of KEDA's kinds as ``kubectl`` applies them, and the settings of the scalers."""
    kinds: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name in CUSTOM:
        definition = yaml.safe_load((checkout / "config" / "crd" / "bases" / f"keda.sh_{name}.yaml").read_text())[
            "spec"
        ]
        (version,) = definition["versions"]
        kind = definition["names"]["kind"]
        kinds[f"{definition['group']}/{version['name']}/{kind}"] = f"#/$defs/{kind}"
        found[kind] = _strict(_bare(version["schema"]["openAPIV3Schema"]))
        found[kind]["properties"]["metadata"] = {"type": "object"}
    sources = checkout / "pkg" / "scalers"
    # What one way of authentication requires, the others do not.
    types = _settings(sources / "authentication" / "authentication_types.go")
    authentication = {name: {**fact, "required": False} for name, fact in types.items()}
    scalers = {
        name: _settings(sources / f"{file}_scaler.go") | (authentication if name != "postgresql" else {})
        for name, file in SCALERS.items()
    }
    return {"kinds": kinds, "$defs": found, "scalers": scalers}


def _settings(source: Path) -> dict[str, Any]:
    found = {}
    for names, order, rest in TAG.findall(source.read_text()):
        allowed = re.search(r"\benum=([^,]+)", rest)
        fact = {
            "in": order.strip().split(";"),
            "required": "optional" not in rest and "default=" not in rest,
            "enum": allowed[1].strip().split(";") if allowed else None,
        }
        found.update(dict.fromkeys(names.strip().split(";"), fact))
    return found


def _bare(schema: Any) -> Any:
    """Return a schema without descriptions; a property may have that name."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _bare(each) for name, each in value.items()} if key in ("properties", "$defs") else _bare(value)
        for key, value in schema.items()
        if key not in ("description", "format") and not key.startswith("x-kubernetes-list")
    }


def _local(schema: Any) -> Any:
    return json.loads(json.dumps(schema).replace("/api/_definitions.json#/", "#/"))


def _strict(schema: Any) -> Any:
    """Return a custom resource's schema that refuses unknown fields, as ``kubectl apply`` does."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        strict.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return strict


if __name__ == "__main__":
    for file, made in {"kubernetes.json": kubernetes(), "keda.json": keda(Path(sys.argv[1]))}.items():
        (HERE / file).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
