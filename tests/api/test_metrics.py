"""``GET /metrics``: who may read it, in which formats, and what it shows of processes, the queue and readiness."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.api.client import Api, Response, until
from tests.api.conftest import TOKEN
from tests.fakes.tcp_proxy import Proxy
from vm_webapp.db.pool import rows, transaction
from vm_webapp.fleet.process_metrics import Process, Publisher
from vm_webapp.metrics import DECLARED, OPEN_STREAMS

PROCESS = Process("api")
Values = dict[tuple[str, ...], float]


async def scrape(api: Api, **headers: str) -> Response:
    """Scrape once."""
    response = await api.request("GET", "/metrics", prefix="", headers=headers)
    assert response.status == 200, response.body
    return response


def values(response: Response, sample: str, *labels: str) -> Values:
    """Return the values of a sample by these labels."""
    families = parse_text(response.body.decode())
    return {
        tuple(each.labels[label] for label in labels): each.value
        for family in families
        for each in family.samples
        if each.name == sample
    }


async def published(api: Api) -> Response:
    """Publish what this process has counted, and scrape."""
    Publisher(PROCESS).publish_once()
    return await scrape(api)


async def test_every_figure_has_a_help_a_type_and_a_declaration(api: Api) -> None:
    await api.create_run()
    for parse, headers, content_type in (
        (parse_text, {}, "text/plain; version=0.0.4; charset=utf-8"),
        (parse_openmetrics, {"Accept": "application/openmetrics-text; version=1.0.0"}, "application/openmetrics-text"),
    ):
        Publisher(PROCESS).publish_once()
        response = await scrape(api, **headers)
        assert response.headers["Content-Type"].startswith(content_type)
        assert response.headers["Vary"] == "Accept"
        families = {family.name: family for family in parse(response.body.decode())}
        assert families.keys() <= DECLARED.keys()
        assert {family.documentation for family in families.values()} <= {each.help for each in DECLARED.values()}
        assert {"vm_ready", "vm_queue_stages", "vm_http_requests", "vm_http_request_seconds"} <= families.keys()


async def test_a_request_is_counted_under_its_route_and_never_under_its_path(api: Api) -> None:
    run = await api.create_run()
    await api.get(f"/runs/{run['id']}")
    await api.get("/runs/no-such-id")
    await api.get("/no/such/path")
    await api.request("GET", "/metrics", prefix="")
    await api.request("PROPFIND", "/runs")
    found = values(await published(api), "vm_http_requests_total", "method", "route", "status")
    assert found["GET", "/api/v2/runs/{run_id}", "200"] >= 1
    assert found["GET", "/api/v2/runs/{run_id}", "404"] >= 1
    assert found["POST", "/api/v2/runs", "201"] >= 1
    assert found["GET", "/metrics", "200"] >= 1
    assert not [
        labels for labels in found if run["id"] in labels[1] or "/no/such" in labels[1] or labels[0] == "PROPFIND"
    ]
    assert [labels for labels in found if labels[0] == "other"]


async def test_a_wait_is_counted_and_not_timed(api: Api) -> None:
    run = await api.create_run()
    timed = values(await published(api), "vm_http_request_seconds_count", "route")
    before = timed.get(("/api/v2/runs/{run_id}",), 0)
    assert (await api.get(f"/runs/{run['id']}?wait=1")).status == 200
    after = values(await published(api), "vm_http_request_seconds_count", "route").get(("/api/v2/runs/{run_id}",), 0)
    assert after == before


@pytest.mark.parametrize(
    ("route", "path"),
    [
        pytest.param("/api/v2/runs/{run_id}/events", "/api/v2/runs/{id}/events", id="of a run's timeline"),
        pytest.param("/ui/changes", "/ui/changes?run={id}", id="of a page's hints"),
    ],
)
async def test_streams_are_counted_while_they_are_open_and_not_timed(api: Api, route: str, path: str) -> None:
    url = api.base_url + path.format(id=(await api.create_run())["id"])
    timed = values(await published(api), "vm_http_request_seconds_count", "route")
    async with api.session.get(url, headers={"Accept": "text/event-stream"}) as stream:
        await stream.content.readline()
        assert values(await published(api), "vm_open_streams") == {(): 1}

    def none_is_open() -> bool:
        return [each.value for metric in OPEN_STREAMS.collect() for each in metric.samples] == [0]

    await until(none_is_open)
    after = values(await published(api), "vm_http_request_seconds_count", "route")
    assert after.get((route,)) == timed.get((route,))


async def test_the_queue_and_the_workers_come_from_the_database(api: Api) -> None:
    await api.create_run()
    response = await scrape(api)
    assert values(response, "vm_queue_stages", "state") == {("due",): 1, ("queued",): 1, ("running",): 0}
    assert values(response, "vm_workers", "state") == {("starting",): 0, ("working",): 0, ("draining",): 0}
    assert values(response, "vm_desired_workers") == {(): 1}
    assert values(response, "vm_autoscale_stale") == {(): 1}
    assert values(response, "vm_queue_arrivals_per_minute") == {}
    assert values(response, "vm_scale_calls", "outcome")["scaled",] == 0
    assert values(response, "vm_queue_paused") == {(): 0}
    assert values(response, "vm_queue_oldest_due_seconds")[()] > 0
    assert values(response, "vm_ready") == {(): 0}
    assert values(response, "vm_dependency_status", "dependency", "status")["worker", "down"] == 1


@pytest.mark.parametrize(
    ("authorization", "status"), [(None, 401), ("Bearer wrong", 401), (f"Bearer {TOKEN}", 200)], ids=str
)
async def test_a_deployment_shows_metrics_to_those_who_may_read(
    refusing_managed: Api, authorization: str | None, status: int
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    assert (await refusing_managed.request("GET", "/metrics", prefix="", headers=headers)).status == status


async def test_without_the_database_readiness_is_still_shown(behind_proxy: Api, proxy: Proxy) -> None:
    await published(behind_proxy)
    proxy.cut()
    response = await scrape(behind_proxy)
    assert values(response, "vm_ready") == {(): 0}
    assert values(response, "vm_dependency_status", "dependency", "status")["database", "down"] == 1
    assert values(response, "vm_http_requests_total") == {}


async def test_two_scrapes_in_a_second_read_the_queue_once(api: Api) -> None:
    assert values(await scrape(api), "vm_queue_stages", "state")["due",] == 0
    await api.create_run()
    assert values(await scrape(api), "vm_queue_stages", "state")["due",] == 0
    api.services.scraper._facts_until = 0.0
    assert values(await scrape(api), "vm_queue_stages", "state")["due",] == 1
    with transaction():
        assert rows("SELECT count(*) AS n FROM process_metrics") == [{"n": 0}]
