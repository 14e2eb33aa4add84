"""The blueprint parsed for tests: the services, and the environment that the platform would give each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "deploy" / "render" / "vm-webapp-render.yaml"
BLUEPRINT: dict[str, Any] = yaml.safe_load(PATH.read_text())
DATABASE = "the database's address"
KEY_VALUE = "the Key Value's address"
GENERATED = "a-generated-secret"
TYPED_IN = "typed in at the dashboard"


def service(name: str) -> dict[str, Any]:
    """Return a service."""
    (found,) = [each for each in BLUEPRINT["services"] if each["name"] == name]
    return dict(found)


def database() -> dict[str, Any]:
    """Return the one database."""
    (found,) = BLUEPRINT["databases"]
    return dict(found)


def environment(name: str) -> dict[str, str]:
    """Return the variables that the platform would set, with the constants above for values that it generates."""
    given: dict[str, str] = {}
    for variable in service(name)["envVars"]:
        given |= _group(variable["fromGroup"]) if "fromGroup" in variable else {variable["key"]: _value(variable)}
    return given


def _group(name: str) -> dict[str, str]:
    (found,) = [each for each in BLUEPRINT["envVarGroups"] if each["name"] == name]
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
