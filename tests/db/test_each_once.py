"""Requests with keys that are executed in one transaction: each takes effect once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vm_webapp.idempotency import Answer, KeyedRequest, KeyInUse, KeyReused, KeyScope, StoredResponse, run_each_once

pytestmark = pytest.mark.usefixtures("database")


def request(key: str, body: bytes = b"{}") -> KeyedRequest:
    return KeyedRequest.of(KeyScope("tests", "POST", "/runs", key), body)


def respond(places: Sequence[int]) -> list[StoredResponse]:
    return [StoredResponse(201, {"Location": f"/{place}"}, f"{place}".encode()) for place in places]


def test_one_key_twice_takes_effect_once() -> None:
    first, again, other = run_each_once([request("a"), request("a"), request("b")], respond)
    assert (first, other) == (Answer(respond([0])[0]), Answer(respond([2])[0]))
    assert isinstance(again, KeyInUse)


def test_what_is_stored_is_given_to_each_who_repeats_it() -> None:
    (stored,) = run_each_once([request("a")], respond)
    assert isinstance(stored, Answer)
    one, two, other_body, new = run_each_once([request("a"), request("a"), request("a", b"[]"), request("b")], respond)
    assert one == two == Answer(stored.response, replayed=True)
    assert isinstance(other_body, KeyReused)
    assert new == Answer(respond([3])[0])
