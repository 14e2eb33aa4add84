"""The Grafana dashboard; ``python -m deploy.grafana.dashboard`` writes it to ``dashboard.json``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from deploy.grafana.panels import mean, number, quantile, rate, series, share

FILE = Path(__file__).with_name("dashboard.json")
# As in ../prometheus/alerts.yml.
NOT_OK = 'vm_dependency_status{status!~"ok|none|offline"}'
# Readiness answers 503 by design.
NOT_PROBES = 'route!~".*/health/.*"'

ROWS: dict[str, Sequence[Stat | Timeseries]] = {
    "Is it well?": [
        number("Not ready", "1 - max(vm_ready)", unit="bool_yes_no", section="readiness-says-not_ready", red_from=1),
        number(
            "Requests that fail",
            share("vm_http_requests_total", f'{{status=~"5..", {NOT_PROBES}}}', f"{{{NOT_PROBES}}}"),
            unit="percentunit",
            section="a-client-reports-an-error",
            red_from=0.02,
        ),
        number(
            "Stages that fail",
            share("vm_stages_finished_total", '{outcome="failed"}'),
            unit="percentunit",
            section="stages-fail-with-llm_",
            red_from=0.1,
        ),
        number(
            "Oldest stage that is due",
            "max(vm_queue_oldest_due_seconds)",
            unit="s",
            section="runs-stay-queued",
            red_from=300,
        ),
        number(
            "Workers that are missing",
            'clamp_min(max(vm_desired_workers) - sum(vm_workers{state="working"}), 0)',
            unit="none",
            section="runs-stay-queued",
            red_from=1,
        ),
        number("Cost of the last 24 hours", "sum(increase(fleet:vm_model_cost_total:sum[24h]))", unit="none"),
    ],
    "Queue": [
        series(
            "Stages",
            {"{{state}}": "max by (state) (vm_queue_stages)"},
            unit="none",
            section="runs-stay-queued",
            about="Due stages could be claimed now; queued ones also wait for a time, a cap or a budget.",
        ),
        series(
            "Workers",
            {"desired": "max(vm_desired_workers)", "{{state}}": "sum by (state) (vm_workers)"},
            unit="none",
            section="a-worker-runs-and-claims-nothing",
        ),
        series(
            "Stages that come, and attempts that end, in a minute",
            {
                "arrivals": "max(vm_queue_arrivals_per_minute)",
                "completions": "max(vm_queue_completions_per_minute)",
            },
            unit="none",
            section="runs-stay-queued",
            about="Means of the last minute. Where more come than end, the queue grows.",
        ),
        series(
            "Time of an attempt, on average",
            {"seconds": "max(vm_queue_mean_stage_seconds)"},
            unit="s",
            section="runs-stay-queued",
        ),
        series(
            "Autoscaling",
            {
                "no decision for 30 s": "max(vm_autoscale_stale)",
                "calls of an hour: {{outcome}}": "max by (outcome) (vm_scale_calls)",
            },
            unit="none",
            section="runs-stay-queued",
        ),
        series(
            "Slots of the workers",
            {"slots": "max(vm_slots)", "in flight": "max(vm_in_flight)"},
            unit="none",
            section="runs-stay-queued",
        ),
        series(
            "Paused",
            {"queue": "max(vm_queue_paused)", "{{provider}}": "max by (provider) (vm_provider_paused)"},
            unit="bool_yes_no",
            section="pause-and-resume-the-queue",
        ),
        series(
            "Workers that have ended within 15 minutes",
            {
                "ended": 'count(count by (instance) (last_over_time(vm_build_info{process="worker"}[15m])))'
                ' - count(count by (instance) (vm_build_info{process="worker"}))'
            },
            unit="none",
            section="a-worker-restarts-again-and-again",
        ),
        series(
            "Dependencies that are not ok",
            {"{{dependency}} {{status}}": f"max by (dependency, status) ({NOT_OK}) == 1"},
            unit="bool_yes_no",
            section="readiness-says-ready-but-a-dependency-is-not-ok",
        ),
    ],
    "Stages": [
        series(
            "Where the time of a stage goes, on average",
            {
                "waits for a worker": mean("vm_stage_queue_seconds"),
                "waits for the model": mean("vm_stage_model_seconds"),
                "waits for a person": mean("vm_stage_review_seconds"),
            },
            unit="s",
            section="runs-stay-queued",
        ),
        series(
            "Waits for a worker, p95",
            {"{{workflow}} {{stage}}": quantile(0.95, "vm_stage_queue_seconds", "workflow", "stage")},
            unit="s",
            section="runs-stay-queued",
        ),
        series(
            "Waits for the model, p95",
            {"{{workflow}} {{stage}}": quantile(0.95, "vm_stage_model_seconds", "workflow", "stage")},
            unit="s",
            section="runs-stay-running",
        ),
        series(
            "Waits for a person, p95",
            {"{{workflow}} {{stage}}": quantile(0.95, "vm_stage_review_seconds", "workflow", "stage")},
            unit="s",
        ),
        series(
            "Stages per second",
            {"{{workflow}} {{outcome}}": rate("vm_stages_finished_total", "workflow", "outcome")},
            unit="ops",
            section="stages-fail-with-llm_",
        ),
        series(
            "Runs per second",
            {"{{workflow}} {{outcome}}": rate("vm_runs_finished_total", "workflow", "outcome")},
            unit="ops",
            section="stages-fail-with-llm_",
        ),
        series(
            "Attempts that failed and are made again, per second",
            {"{{reason}}": rate("vm_retries_total", "reason")},
            unit="ops",
            section="runs-stay-running",
        ),
        series(
            "Stages that left their worker, per second",
            {"it was gone": rate("vm_rescues_total"), "it was ending": rate("vm_releases_total")},
            unit="ops",
            section="runs-stay-running",
        ),
    ],
    "Model": [
        series(
            "Calls per second",
            {"{{provider}} {{model}} {{outcome}}": rate("vm_model_calls_total", "provider", "model", "outcome")},
            unit="ops",
            section="stages-fail-with-llm_",
        ),
        series(
            "Until the first token",
            {
                "{{model}} p50": quantile(0.5, "vm_model_first_token_seconds", "model"),
                "{{model}} p95": quantile(0.95, "vm_model_first_token_seconds", "model"),
            },
            unit="s",
            section="runs-stay-running",
        ),
        series(
            "Tokens per second", {"{{model}} {{kind}}": rate("vm_model_tokens_total", "model", "kind")}, unit="none"
        ),
        series(
            "Cost per hour",
            {"{{model}}, {{currency}}": f"3600 * {rate('vm_model_cost_total', 'model', 'currency')}"},
            unit="none",
            about="By VM_MODEL_PRICES; nothing without it.",
        ),
    ],
    "HTTP": [
        series(
            "Requests per second, by route",
            {"{{method}} {{route}}": rate("vm_http_requests_total", "method", "route")},
            unit="reqps",
            section="clients-get-503-too_many_connections",
            about="What is malformed, or one connection too many, has the route refused.",
        ),
        series(
            "Requests per second, by status",
            {"{{status}}": rate("vm_http_requests_total", "status")},
            unit="reqps",
            section="a-client-reports-an-error",
        ),
        series(
            "Refused by a limit, per second",
            {"{{route}}": rate("vm_http_requests_total", "route", where='{status="429"}')},
            unit="reqps",
            section="a-client-gets-429",
        ),
        series(
            "Time until the response, p95",
            {"{{method}} {{route}}": quantile(0.95, "vm_http_request_seconds", "method", "route")},
            unit="s",
            section="requests-are-slow",
            about="Without streams and requests with ?wait=.",
        ),
        series("Open streams", {"{{instance}}": "sum by (instance) (vm_open_streams)"}, unit="none"),
    ],
    "Processes": [
        series(
            "The event loop is late by, at most",
            {"{{process}} {{instance}}": "max by (process, instance) (vm_loop_lag_seconds)"},
            unit="s",
            section="requests-are-slow",
        ),
        series(
            "Database connections",
            {"{{process}} {{state}}": "sum by (process, state) (vm_pool_connections)"},
            unit="none",
            section="database-connections",
        ),
        series(
            "Threads that wait for a database connection, on average",
            {"{{process}}": rate("vm_pool_wait_seconds_sum", "process")},
            unit="none",
            section="database-connections",
        ),
        series(
            "Time that they wait, p95",
            {"{{process}}": quantile(0.95, "vm_pool_wait_seconds", "process")},
            unit="s",
            section="database-connections",
        ),
        series(
            "Hints per second",
            {"{{result}}": rate("vm_hints_total", "result")},
            unit="ops",
            section="2-redis-is-set-and-can-be-reached",
        ),
        series(
            "Errors of the loops, per second",
            {"{{process}}": rate("vm_loop_errors_total", "process")},
            unit="ops",
            section="3-errors-of-the-polling-loop",
        ),
        series(
            "Processes, by build",
            {"{{process}} {{build}}": "count by (process, build) (vm_build_info)"},
            unit="none",
            section="no-metrics-arrive",
        ),
    ],
}


def dashboard() -> Dashboard:
    """Return the dashboard, from what clients feel down to single processes."""
    made = (
        Dashboard("VM Webapp")
        .uid("vm-webapp")
        .tags(["vm-webapp"])
        .readonly()
        .timezone("utc")
        .time("now-3h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    ids = count(1)
    for title, panels in ROWS.items():
        made.with_row(Row(title).id(next(ids)))
        for panel in panels:
            made.with_panel(panel.id(next(ids)))
    return made


def text() -> str:
    """Return the dashboard as Grafana imports it."""
    return JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False).encode(dashboard().build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
