"""API processes share the limit of a key: together they admit no more than a tenth above it, and rarely ask for it."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.actors import OPERATOR
from tests.support.api_processes import service
from tests.support.deployment import managed_environment
from tests.support.runs import read
from tests.support.statements import counted
from vm_webapp.access.allowance import REQUESTS_PER_TRIP
from vm_webapp.access.keys import create_key

PROCESSES, LIMIT = 3, 600


class Answer(NamedTuple):
    """The status of a response, and when it had come."""

    status: int
    at: float


@pytest.fixture
def secret(database: str) -> str:
    """The secret of a key."""
    return create_key("ci", actor=OPERATOR).secret


def send(connection: http.client.HTTPConnection, secret: str, requests: int) -> list[Answer]:
    """Send requests one after another, all to one process."""
    answers = []
    with closing(connection):
        for _ in range(requests):
            connection.request("GET", "/api/v2/workflows", headers={"Authorization": f"Bearer {secret}"})
            response = connection.getresponse()
            response.read()
            answers.append(Answer(response.status, time.time()))
    return answers


def test_processes_together_admit_no_more_than_a_tenth_above_the_limit(
    database: str, secret: str, redis_url: str, tmp_path: Path
) -> None:
    with counted(database) as (traffic, url):
        env = managed_environment(
            url, redis_url, tmp_path, WEB_CONCURRENCY=str(PROCESSES), VM_REQUESTS_PER_MINUTE=str(LIMIT)
        )
        with service(env, tmp_path) as serving, ThreadPoolExecutor() as clients:
            connections = [each for some in serving.connect_to_each(3).values() for each in some[:3]]
            sent = clients.map(lambda connection: send(connection, secret, 120), connections)
            answers = [answer for each in sent for answer in each]
        trips = sum("('requests " in query.sql for query in traffic.taken() if query.sql.startswith("EXECUTE "))
    (window,) = read("SELECT extract(epoch FROM began_at)::float8 AS began FROM rate_windows")
    assert {answer.status for answer in answers} == {200, 429}
    # PostgreSQL runs on this machine: its clock is ours.
    admitted = [answer for answer in answers if answer.status == 200 and answer.at < window["began"] + 60]
    assert LIMIT * 0.8 <= len(admitted) <= LIMIT * 1.1
    assert PROCESSES <= trips <= len(answers) / REQUESTS_PER_TRIP
