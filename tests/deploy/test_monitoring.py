"""Alerts, dashboard and runbook fit each other, and Prometheus' and Grafana's formats."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import dashboard
from deploy.grafana.panels import RUNBOOK
from tests.deploy.monitoring import ALERTS, PANELS, RULES, SUMS
from tests.deploy.runbook import sections, symptoms
from tests.support.prometheus import promtool
from vm_webapp.metrics import DECLARED

ALERT_LINE = re.compile(r"^(?:Alerts?: (?P<alerts>.+?)|No alert\b.*?)(?:\n\n|\Z)", re.M | re.S)


SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def series_of(metric: str) -> set[str]:
    """Return the names of the series that a metric has."""
    return {metric + suffix for suffix in SUFFIXES.get(DECLARED[metric].kind, ("",))}


def named_in(*queries: str) -> set[str]:
    """Return the names of the series in queries."""
    return {name for query in queries for name in re.findall(r"\bvm_\w+", query)}


def alerts_of(section: str) -> set[str]:
    """Return the alerts that a section of the runbook names in its first paragraph."""
    found = ALERT_LINE.match(section.strip())
    assert found is not None, section
    return set(re.findall(r"`(Vm\w+)`", found["alerts"] or ""))


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES / "recording.yml", RULES / "alerts.yml")


def test_promtool_finds_nothing_wrong_with_the_example_of_a_configuration(tmp_path: Path) -> None:
    copytree(RULES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "vm-webapp.key").write_text("a key")
    promtool("check", "config", tmp_path / "prometheus.yml")


@pytest.mark.parametrize("name", symptoms())
def test_a_symptom_of_the_runbook_has_an_alert_or_says_why_not(name: str) -> None:
    assert alerts_of(symptoms()[name]) <= set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_links_to_a_section_that_names_it(name: str) -> None:
    address, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    assert address == RUNBOOK
    assert name in alerts_of(symptoms()[anchor])


def test_the_panels_show_what_there_are_alerts_for_and_link_to_the_same_sections() -> None:
    linked = {link["url"] for panel in PANELS for link in panel["links"]}
    assert {url.removeprefix(f"{RUNBOOK}#") for url in linked} <= set(sections())
    assert linked >= {rule["annotations"]["runbook_url"] for rule in ALERTS.values()}


def test_every_counter_and_histogram_is_summed_over_all_processes() -> None:
    counted = [name for metric in DECLARED for name in series_of(metric) if DECLARED[metric].kind in SUFFIXES]
    assert {f"fleet:{name}:sum": f"sum without (instance) ({name})" for name in counted} == SUMS


def test_queries_name_only_series_that_there_are() -> None:
    known = {name for metric in DECLARED for name in series_of(metric)}
    assert named_in(*QUERIES, *(rule["expr"] for rule in ALERTS.values())) <= known


@pytest.mark.parametrize("metric", DECLARED)
def test_a_metric_is_shown_in_a_panel(metric: str) -> None:
    assert not named_in(*QUERIES).isdisjoint(series_of(metric))


def test_the_dashboard_is_the_one_that_is_generated() -> None:
    # Otherwise: python -m deploy.grafana.dashboard
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text()


def test_the_dashboard_has_only_what_grafana_knows() -> None:
    register_default_plugins()
    given = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(given))) == given
