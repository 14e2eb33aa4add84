"""The rules and the dashboard parsed for tests, and a Prometheus' configuration."""

from __future__ import annotations

import json
from pathlib import Path
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


def scraping_configuration(folder: Path, url: str, key: str) -> Path:
    """Return the file of the example's configuration, with a deployment's address and key, and more haste.

    Args:
        folder: where the file goes, in a folder of its own.
        url: of the API.
        key: with which it is asked.
    """
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job |= {"scheme": "http", "static_configs": [{"targets": [url.removeprefix("http://")]}]}
    home = folder / "prometheus"
    home.mkdir()
    (home / job["authorization"]["credentials_file"]).write_text(key)
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    return home / "prometheus.yml"
