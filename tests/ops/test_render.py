"""Render's API as the product speaks it: what is no number of instances is never taken for one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.render import KEY, SERVICE, FakeRender
from vm_webapp.ops.autoscale.platform import PlatformError, Render, Service


@pytest.fixture
def fake() -> Iterator[FakeRender]:
    """Render's API."""
    with FakeRender() as running:
        yield running


@pytest.fixture
def render(fake: FakeRender) -> Iterator[Render]:
    """The client."""
    client = Render(KEY, SERVICE, url=fake.url)
    yield client
    client.close()


def later() -> float:
    return time.monotonic() + 10


def test_the_number_is_read_and_set(fake: FakeRender, render: Render) -> None:
    assert render.read() == Service(1, scales_itself=False)
    render.scale(3, until=later())
    assert (render.read(), fake.numbers) == (Service(3, scales_itself=False), [3])


@pytest.mark.parametrize(
    ("autoscaling", "expected"), [({"enabled": True, "min": 1}, True), ({"enabled": False}, False)]
)
def test_its_own_autoscaling_is_seen(
    fake: FakeRender, render: Render, autoscaling: dict[str, Any], expected: bool
) -> None:
    fake.autoscaling = autoscaling
    assert render.read().scales_itself is expected


def body(instances: Any) -> bytes:
    return json.dumps({"serviceDetails": {"numInstances": instances}}).encode()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"null",
        b"[]",
        b"{}",
        b'{"serviceDetails": null}',
        body("3"),
        body(None),
        body(-1),
        body(2.5),
        body(True),
        body(10**9),
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
    ids=lambda given: str(given[:40]),
)
def test_a_response_that_makes_no_sense_is_no_number(fake: FakeRender, render: Render, nonsense: bytes) -> None:
    fake.responses.append(("GET", 200, {}, nonsense))
    with pytest.raises(PlatformError, match="sense"):
        render.read()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"Render refuses RENDER_API_KEY \(401\): set one that may change srv-of-the-tests"),
        (403, "refuses RENDER_API_KEY"),
        (404, "set VM_AUTOSCALE_SERVICE_ID"),
        (500, "responded with 500"),
        (302, "responded with 302"),
        (429, "asked too often"),
    ],
)
def test_a_refusal_says_what_to_do_and_shows_no_key(fake: FakeRender, render: Render, status: int, words: str) -> None:
    fake.responses.append(("POST", status, {"Location": "http://127.0.0.1:1/"}, b"secret details"))
    with pytest.raises(PlatformError, match=words) as refused:
        render.scale(2, until=later())
    assert KEY not in str(refused.value)
    assert fake.numbers == []


@pytest.mark.parametrize(
    ("given", "expected"), [("17", 17.0), ("99999", 3600.0), ("soon", None), ("", None), ("9" * 400, None)]
)
def test_it_says_when_it_may_be_asked_again(
    fake: FakeRender, render: Render, given: str, expected: float | None
) -> None:
    fake.responses.append(("POST", 429, {"Retry-After": given}, b""))
    with pytest.raises(PlatformError) as refused:
        render.scale(2, until=later())
    assert refused.value.retry_after == expected


def test_a_call_takes_three_seconds_at_most(fake: FakeRender, render: Render) -> None:
    fake.hangs_seconds = 5
    began = time.monotonic()
    with pytest.raises(PlatformError, match="did not respond within 3 s"):
        render.read()
    assert time.monotonic() - began < 3.5


def test_nothing_is_sent_after_its_time(fake: FakeRender, render: Render) -> None:
    with pytest.raises(PlatformError):
        render.scale(9, until=time.monotonic())
    assert fake.numbers == []


def test_a_platform_that_is_away_is_said_in_a_line() -> None:
    render = Render(KEY, SERVICE, url="http://127.0.0.1:1/v1")
    with pytest.raises(PlatformError, match="cannot be reached") as away:
        render.read()
    assert "\n" not in str(away.value)
    render.close()
