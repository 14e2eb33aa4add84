"""Each alert fires when it should, says what is wrong, and stays silent otherwise: promtool runs the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.monitoring import ALERTS, SUMS
from tests.support.prometheus import promtool

STEP = "1m"
READY = {"vm_ready": "1x60"}
CALM = {'vm_http_requests_total{process="api",instance="a",route="/api/v2/runs",status="200"}': "0+100x60"}


@dataclass(frozen=True, slots=True)
class Case:
    """What one alert is tried with.

    Attributes:
        fires: the series, in promtool's notation and every minute, with which it fires in the end.
        silent: the series with which it does not.
        nor: other ones with which it does not, for another reason.
        summary: what it says when it fires.
        labels: its labels beside ``severity``.
        minutes: after how many it fires.
    """

    fires: Mapping[str, str]
    silent: Mapping[str, str]
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)
    minutes: int = 40
    nor: Mapping[str, str] = field(default_factory=dict)


def requests(status: str, each: int, route: str = "/api/v2/runs") -> dict[str, str]:
    """Return requests that two processes answer with a status, so many each minute, beside a hundred others."""
    names = [
        f'vm_http_requests_total{{process="api",instance="{instance}",route="{route}",status="{status}"}}'
        for instance in ("a", "b")
    ]
    return CALM | dict.fromkeys(names, f"0+{each}x60")


def latencies(metric: str, labels: str, limits: Mapping[str, int]) -> dict[str, str]:
    """Return a histogram: the upper limit of each bucket → how many observations up to it come in a minute."""
    return {f'{metric}_bucket{{{labels},le="{limit}"}}': f"0+{count}x60" for limit, count in limits.items()}


def restarting(process: str) -> dict[str, str]:
    """Return processes of a kind of which another one begins every two minutes."""
    return {f'vm_build_info{{process="{process}",instance="{n}"}}': f"_x{2 * n} 1 1 stale" for n in range(30)}


CASES = {
    "VmMetricsMissing": Case({"up": "0x60"}, READY, "No API has responded to a scrape for two minutes"),
    "VmNotReady": Case(
        {"vm_ready": "1x15 0x45"}, READY, "Work cannot progress; GET /api/v2/health/ready says why", minutes=17
    ),
    "VmDegraded": Case(
        {'vm_dependency_status{dependency="redis",status="degraded"}': "1x60"},
        {'vm_dependency_status{dependency="redis",status="none"}': "1x60"},
        "Readiness has said for a quarter of an hour that redis is degraded",
        {"dependency": "redis", "status": "degraded"},
        nor={'vm_dependency_status{dependency="worker",status="unknown"}': "1x60"},
    ),
    "VmErrors": Case(
        requests("503", 5) | requests("200", 1000, "/api/v2/health/ready"),
        requests("503", 1) | requests("503", 50, "/api/v2/health/ready"),
        "9.091% of the requests fail",
    ),
    "VmConnectionsFull": Case(
        requests("503", 1, "refused"),
        requests("503", 1) | requests("400", 1, "refused"),
        "Clients are refused because too many connections are open",
    ),
    "VmRequestsSlow": Case(
        latencies("vm_http_request_seconds", 'process="api",route="/api/v2/runs"', {"1": 90, "2": 100, "+Inf": 100}),
        latencies("vm_http_request_seconds", 'process="api",route="/api/v2/runs"', {"1": 96, "2": 100, "+Inf": 100}),
        "One request in twenty takes longer than 1.5s",
    ),
    "VmRequestsRefused": Case(
        requests("429", 10), requests("429", 2), "16.67% of the requests are refused by a limit", minutes=35
    ),
    "VmQueueOld": Case(
        {"vm_queue_oldest_due_seconds": "400x60", "vm_queue_paused": "0x60"},
        {"vm_queue_oldest_due_seconds": "400x60", "vm_queue_paused": "1x60"},
        "A stage that is due has waited for 6m 40s",
        nor={"vm_queue_oldest_due_seconds": "200x60", "vm_queue_paused": "0x60"},
    ),
    "VmTooFewWorkers": Case(
        {"vm_desired_workers": "3x60", 'vm_workers{state="working"}': "2x60", 'vm_workers{state="stopped"}': "4x60"},
        {"vm_desired_workers": "3x60", 'vm_workers{state="working"}': "3x60"},
        "The queue needs 3 workers, and fewer are working",
        nor={"vm_desired_workers": "3x60", 'vm_workers{state="working"}': "2x60", "vm_queue_paused": "1x60"},
    ),
    "VmAutoscaleStale": Case(
        {"vm_autoscale_stale": "1x60"},
        {"vm_autoscale_stale": "1x8 0 1x8 0 1x8 0x40"},
        "No API process has decided for 10 minutes how many workers there should be",
    ),
    "VmScalingFails": Case(
        {'vm_scale_calls{outcome="failed"}': "4x60", 'vm_scale_calls{outcome="differs"}': "2x60"},
        {'vm_scale_calls{outcome="failed"}': "5x60", 'vm_scale_calls{outcome="scaled"}': "90x60"},
        "6 calls of the last hour did not change the number of workers as they should",
    ),
    "VmQueuePaused": Case(
        {"vm_queue_paused": "1x60"},
        {"vm_queue_paused": "1x20 0 1x39"},
        "The queue has been paused for half an hour",
    ),
    "VmStagesFail": Case(
        {
            'vm_stages_finished_total{outcome="failed"}': "0+1x60",
            'vm_stages_finished_total{outcome="completed"}': "0+3x60",
        },
        {
            'vm_stages_finished_total{outcome="failed"}': "0+1x60",
            'vm_stages_finished_total{outcome="completed"}': "0+30x60",
        },
        "25% of the stages fail",
        nor={
            'vm_stages_finished_total{outcome="failed"}': "0x30 2x30",
            'vm_stages_finished_total{outcome="completed"}': "0x30 3x30",
        },
    ),
    "VmProviderPaused": Case(
        {'vm_provider_paused{provider="kimi"}': "1x60", 'vm_provider_paused{provider="other"}': "0x60"},
        {'vm_provider_paused{provider="kimi"}': "0x60"},
        "The provider kimi is paused, and its stages wait",
        {"provider": "kimi"},
    ),
    "VmRetries": Case(
        {'vm_retries_total{reason="llm_overloaded"}': "0+3x60", 'vm_model_calls_total{model="m"}': "0+10x60"},
        {'vm_retries_total{reason="llm_overloaded"}': "0+1x60", 'vm_model_calls_total{model="m"}': "0+10x60"},
        "30% of the model calls are made again",
    ),
    "VmModelSlow": Case(
        latencies("vm_model_first_token_seconds", 'model="m"', {"60": 10, "120": 20, "+Inf": 20}),
        latencies("vm_model_first_token_seconds", 'model="m"', {"60": 20, "120": 20, "+Inf": 20}),
        "m is silent for 1m 54s before its first token",
        {"model": "m"},
    ),
    "VmRescues": Case(
        {"vm_rescues_total": "0x40 4x20"},
        {"vm_rescues_total": "0x40 3x20"},
        "Within half an hour 4 stages were taken over from workers that were gone",
        minutes=55,
    ),
    "VmWorkersRestart": Case(
        restarting("worker") | {f'vm_build_info{{process="api",instance="a{n}"}}': "1x60" for n in range(5)},
        {f'vm_build_info{{process="worker",instance="{n}"}}': f"_x{30 * (n > 2)} 1x29 stale" for n in range(6)},
        "Within a quarter of an hour 8 workers have ended",
        nor=restarting("api") | {'vm_build_info{process="worker",instance="w"}': "1x60"},
    ),
    "VmWorkerStarting": Case(
        {'vm_workers{state="starting"}': "1x60"},
        {'vm_workers{state="starting"}': "1x2 0x58", 'vm_workers{state="working"}': "1x60"},
        "A worker has been waiting for five minutes before it may work",
    ),
    "VmPoolBusy": Case(
        {'vm_pool_wait_seconds_sum{process="api",instance="a"}': "0+90x60"},
        {'vm_pool_wait_seconds_sum{process="api",instance="a"}': "0+30x60"},
        "1.5 threads of processes of kind api wait for a connection",
        {"process": "api"},
    ),
    "VmLoopLag": Case(
        {'vm_loop_lag_seconds{process="api",instance="a"}': "0.7x60"},
        {'vm_loop_lag_seconds{process="api",instance="a"}': "0.3x37 2 0.3x22"},
        "The loop of a is late by 700ms",
        {"process": "api", "instance": "a"},
    ),
    "VmHintsLost": Case(
        {'vm_hints_total{result="failed"}': "0+1x60", 'vm_hints_total{result="sent"}': "0+1x60"},
        {'vm_hints_total{result="failed"}': "0+1x60", 'vm_hints_total{result="sent"}': "0+50x60"},
        "50% of the hints do not reach Redis",
    ),
    "VmLoopErrors": Case(
        {"vm_loop_errors_total": "0+2x60"},
        {"vm_loop_errors_total": "0+0.5x60"},
        "The polling loops have failed 20 times in ten minutes",
    ),
}


def run_rules(
    folder: Path, expression: str, *tests: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Run tests in promtool's own form.

    Args:
        folder: where to write what promtool reads.
        expression: what is tried; the sums that it names are recorded, and no others, since each costs time.
        tests: the tests.
        alerts: the alerts that are evaluated.
    """
    sums = [{"record": name, "expr": SUMS[name]} for name in SUMS if name in expression]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "tried", "rules": [*sums, *alerts]}]}))
    tried = {"rule_files": ["rules.yml"], "evaluation_interval": STEP, "tests": list(tests)}
    (folder / "tests.yml").write_text(yaml.safe_dump(tried))
    promtool("test", "rules", folder / "tests.yml")


def series(values: Mapping[str, str]) -> dict[str, Any]:
    """Return series in promtool's form."""
    inputs = [{"series": name, "values": each} for name, each in values.items()]
    return {"interval": STEP, "input_series": inputs}


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == list(ALERTS)


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_and_is_silent(name: str, tmp_path: Path) -> None:
    case, rule = CASES[name], ALERTS[name]
    fired = {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {"summary": case.summary, "runbook_url": rule["annotations"]["runbook_url"]},
    }
    at = {"eval_time": f"{case.minutes}m", "alertname": name}
    run_rules(
        tmp_path,
        rule["expr"],
        {"name": "fires", **series(case.fires), "alert_rule_test": [{**at, "exp_alerts": [fired]}]},
        *(
            {"name": "is silent", **series(silent), "alert_rule_test": [{**at, "exp_alerts": []}]}
            for silent in (case.silent, case.nor)
            if silent
        ),
        alerts=[rule],
    )


def test_the_sum_counts_a_new_process_in_full_and_a_purged_one_once(tmp_path: Path) -> None:
    counted = {
        'vm_rescues_total{process="worker",instance="old"}': "40x10 stale",
        'vm_rescues_total{process="worker",instance="new"}': "_x5 3x20",
        'vm_rescues_total{process="worker",instance="gone"}': "100x10 140x10",
    }
    expected = {
        "sum(fleet:vm_rescues_total:sum)": 143,
        "sum(round(increase(fleet:vm_rescues_total:sum[15m])))": 3,
        "sum(round(increase(vm_rescues_total[15m])))": 40,  # of each series: misses the 3, counts the 40 again
    }
    checks = [
        {"expr": expression, "eval_time": "18m", "exp_samples": [{"labels": "{}", "value": value}]}
        for expression, value in expected.items()
    ]
    run_rules(tmp_path, " ".join(expected), {**series(counted), "promql_expr_test": checks})
