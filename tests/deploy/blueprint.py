"""The blueprint, as the tests read it: a service with the environment that the platform would give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "deploy" / "render" / "vm-webapp-render.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text())
DATABASE = "the database's address"
KEY_VALUE = "the Key Value's address"
GENERATED = "a-generated-secret"
TYPED_IN = "typed in at the dashboard"


def service(name: str) -> dict[str, Any]:
    """Return a service."""
    (found,) = [each for each in DOCUMENT["services"] if each["name"] == name]
    return dict(found)


def database() -> dict[str, Any]:
    """Return the one database."""
    (found,) = DOCUMENT["databases"]
    return dict(found)


def environment(name: str) -> dict[str, str]:
    """Return what the platform would set for a service, with the words above in place of what it makes itself."""
    given: dict[str, str] = {}
    for variable in service(name)["envVars"]:
        given |= _group(variable["fromGroup"]) if "fromGroup" in variable else {variable["key"]: _value(variable)}
    return given


def _group(name: str) -> dict[str, str]:
    (found,) = [each for each in DOCUMENT["envVarGroups"] if each["name"] == name]
    return {variable["key"]: _value(variable) for variable in found["envVars"]}


def _value(variable: dict[str, Any]) -> str:
    match variable:
        case {"value": str(value)}:
            return value
        case {"generateValue": True}:
            return GENERATED
        case {"sync": False}:
            return TYPED_IN
        case {"fromDatabase": {"name": name, "property": "connectionString"}}:
            assert name == database()["name"]
            return DATABASE
        case {"fromService": {"type": "keyvalue", "name": name, "property": "connectionString"}}:
            assert service(name)["type"] == "keyvalue"
            return KEY_VALUE
        case {"fromService": {"type": kind, "name": name, "envVarKey": key}}:
            assert service(name)["type"] == kind
            return environment(name)[key]
    raise AssertionError(f"the platform would not understand {variable}")
