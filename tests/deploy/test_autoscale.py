"""What each scaler reads is the ``desired_workers`` of GET /queue: asked as the scaler would, of a running API."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest

from tests.deploy.manifests import FOLDER, authentication, trigger
from tests.deploy.monitoring import scraping_configuration
from tests.fakes.judoscale import SECRET, FakeJudoscale
from tests.support.databases import Databases
from tests.support.deployment import address_of, managed_environment
from tests.support.folders import open_folder
from tests.support.processes import Program, program
from tests.support.prometheus import prometheus
from tests.support.waiting import eventually
from vm_webapp.cli.keys import run_create
from vm_webapp.local import LocalServers
from vm_webapp.local.postgres import find_programs
from vm_webapp.settings import Settings

pytestmark = pytest.mark.timeout(120)

TOKEN = "a-token-of-the-tests"
ROLE = "vm_webapp_autoscaler"
# More than one worker runs at once, and more than the fewest that a scaler would have anyway.
WORK, FEWEST = 80, 3


@dataclass(frozen=True)
class Busy:
    """An API without workers, whose queue has work for several.

    Attributes:
        key: of a viewer, made as the README says.
        judoscale: where it reports.
    """

    api: Program
    http: httpx.Client
    database_url: str
    key: str
    judoscale: FakeJudoscale

    def desired_workers(self) -> float:
        """Return the number that GET /queue gives."""
        return float(self.http.get("/api/v2/queue").raise_for_status().json()["desired_workers"])

    def check(self, read: Callable[[], float | None], what: str) -> None:
        """Check that a scaler reads that number, which may change between two looks, and which is not the least."""
        looks: list[tuple[float | None, float]] = []

        def same() -> bool:
            looks.append((read(), self.desired_workers()))
            return looks[-1][0] == looks[-1][1]

        try:
            eventually(same, what, seconds=20)
        except AssertionError:
            pytest.fail(f"{what} and that of GET /queue: {looks[-1]}")
        assert looks[-1][1] >= FEWEST


@pytest.fixture(scope="module")
def busy(servers: LocalServers, databases: Databases) -> Iterator[Busy]:
    database = databases.take()
    url = databases.url(database)
    assert servers.redis_url is not None
    with open_folder() as folder, FakeJudoscale() as judoscale:
        given = {"VM_API_TOKEN": TOKEN, "JUDOSCALE_URL": judoscale.url, "VM_AUTOSCALE_MIN": str(FEWEST)}
        env = managed_environment(url, servers.redis_url, folder, **given)
        with redirect_stdout(StringIO()) as printed:
            run_create(Settings(managed=True, db_url=url), "keda", "viewer", None)
        with (
            program("serve", "--port", "0", env=env, folder=folder / "api") as api,
            httpx.Client(
                base_url=address_of(api), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
            ) as http,
        ):
            for number in range(WORK):
                http.post("/api/v2/runs", json={"workflow": "plan_90d", "request": f"plan {number}"}).raise_for_status()
            yield Busy(api, http, url, printed.getvalue().strip(), judoscale)
    databases.release(database)


def test_keda_reads_it_from_the_api(busy: Busy) -> None:
    asked, (token,) = trigger("keda/metrics-api.yaml")["metadata"], authentication("keda/metrics-api.yaml")
    assert (asked["authMode"], token["parameter"]) == ("bearer", "token")
    url = httpx.URL(str(busy.http.base_url)).join(urlsplit(asked["url"]).path)

    def read() -> float:
        # As its metrics_api_scaler.go does it; only a path of plain names means the same here as to GJSON.
        answer = httpx.get(url, headers={"Authorization": f"Bearer {busy.key}"}, timeout=3, trust_env=False)
        assert 200 <= answer.status_code < 300
        found = answer.json()
        assert re.fullmatch(r"\w+(\.\w+)*", asked["valueLocation"])
        for name in asked["valueLocation"].split("."):
            found = found[name]
        assert type(found) in (int, float), "GJSON's Number"
        return float(found) / float(asked["targetValue"])

    busy.check(read, "the number in the answer")
    assert httpx.get(url, trust_env=False).status_code == 401


@pytest.fixture
def role(busy: Busy) -> Iterator[str]:
    """The URL of the database for the role that ``role.sql`` makes, run twice."""
    command: list[str | Path] = [find_programs() / "psql", busy.database_url, "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    for password in ("first", "it's another"):
        subprocess.run(
            [*command, "-f", FOLDER / "keda" / "role.sql"], env={"VM_AUTOSCALER_PASSWORD": password}, check=True
        )
    yield busy.database_url.replace("postgres@", f"{ROLE}@")
    subprocess.run([*command, "-c", f"DROP OWNED BY {ROLE}", "-c", f"DROP ROLE {ROLE}"], check=True)


def test_keda_reads_it_from_the_database_with_a_role_that_may_read_nothing_else(busy: Busy, role: str) -> None:
    asked, (connection,) = trigger("keda/postgresql.yaml")["metadata"], authentication("keda/postgresql.yaml")
    assert connection["parameter"] == "connection"
    with closing(psycopg2.connect(role)) as session, session.cursor() as cursor:
        session.autocommit = True

        def read() -> float:
            cursor.execute(asked["query"])
            ((found,),) = cursor.fetchall()
            return float(found) / float(asked["targetQueryValue"])

        busy.check(read, "the number in the view")
        for forbidden in ("SELECT 1 FROM runs", "SELECT 1 FROM api_keys", "SELECT 1 FROM autoscale_decision"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(forbidden)
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            cursor.execute("CREATE TABLE theirs ()")


def test_keda_reads_it_from_prometheus(busy: Busy) -> None:
    asked = trigger("keda/prometheus.yaml")["metadata"]
    with (
        open_folder() as folder,
        prometheus(scraping_configuration(folder, str(busy.http.base_url), busy.key)) as scraping,
    ):

        def read() -> float | None:
            # As its prometheus_scaler.go does it: one element or, after a loss of the target, an error.
            found = scraping.query(asked["query"])
            assert len(found) <= 1
            return float(found[0]["value"][1]) / float(asked["threshold"]) if found else None

        busy.check(read, "the number in Prometheus")


def test_judoscale_is_told_how_long_the_oldest_stage_has_waited(busy: Busy) -> None:
    known = len(busy.judoscale.reports)
    sent = eventually(lambda: busy.judoscale.reports[known:], "a report", seconds=25)[0]
    waited = busy.http.get("/api/v2/queue").json()["oldest_due_seconds"]
    ((_, late, *late_of), (_, running, *busy_of)) = sent["metrics"]
    assert 0 < late / 1000 <= waited
    assert (late_of, running, busy_of) == (["qt", "stages"], 0, ["busy", "stages"])
    assert busy.judoscale.refused == []
    assert SECRET not in busy.api.output()
    assert "judoscale" not in json.dumps(busy.http.get("/api/v2/health/ready").json())
