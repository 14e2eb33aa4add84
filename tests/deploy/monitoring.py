"""The rules and the dashboard parsed for tests."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.support.processes import ROOT

RULES = ROOT / "deploy" / "prometheus"


def _rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((RULES / file).read_text())["groups"] for rule in group["rules"]]


SUMS: dict[str, str] = {rule["record"]: rule["expr"] for rule in _rules("recording.yml")}
"""Name of the recorded series → its expression."""

ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in _rules("alerts.yml")}
"""Name → rule."""

PANELS: list[dict[str, Any]] = [
    panel
    for panel in json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    if panel["type"] != "row"
]
"""The panels of the dashboard, without the headings of its rows."""
