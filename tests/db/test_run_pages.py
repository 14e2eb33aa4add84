"""The queries behind the pages of a run: its history, and what it was created with."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.support.runs import create
from tests.support.work import claim_next, finish_next
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands
from vm_webapp.errors import NotFound
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.states import Failure

ANN = Actor("key:ann", "editor", "ann")


def test_the_history_is_the_newest_events_oldest_first(database: str) -> None:
    run_id = create().run.id
    finish_next(run_id)
    whole = queries.list_events(run_id, after=0, limit=200)
    assert queries.read_history(run_id, limit=len(whole)) == queries.History(tuple(whole), is_cut=False)
    assert queries.read_history(run_id, limit=2) == queries.History(tuple(whole[-2:]), is_cut=True)


def test_the_history_says_that_a_failed_call_has_text_and_leaves_it_out(database: str) -> None:
    run_id = create().run.id
    failure = Failure("llm_overloaded", "too busy", permanent=False, partial_text="# Half")
    assert lifecycle.fail_attempt_if_held(claim_next(run_id), failure, jitter=0.5) == "retrying"
    (failed,) = (each for each in queries.read_history(run_id, limit=50).events if "code" in each.data)
    assert (failed.data["message"], failed.data["partial_text_cut"]) == ("too busy", False)
    assert failed.data["partial_text"] is True


def test_the_origin_has_brand_and_project_as_they_were(database: str) -> None:
    values = {"name": "Velo Bakery", "facts": ["no trans fats"], "forbidden_words": ["cheap"]}
    brand = brands.create(values, actor=ANN)
    run_id = create(brand_id=brand.id).run.id
    origin = queries.read_origin(run_id)
    assert origin.brand is not None
    assert {name: origin.brand[name] for name in values} == values
    assert (origin.title, origin.project, origin.created_by, origin.four_eyes) == (
        "Content calendar",
        None,
        "tests",
        False,
    )


def test_a_run_that_does_not_exist_has_neither(database: str) -> None:
    with pytest.raises(NotFound):
        queries.read_history(uuid4(), limit=5)
    with pytest.raises(NotFound):
        queries.read_origin(uuid4())


def test_an_edited_version_names_its_author(database: str) -> None:
    run_id = create("landing_page").run.id
    finish_next(run_id)
    (draft,) = queries.list_artifacts(run_id)
    lifecycle.approve_stage_if_waiting(
        run_id, draft.stage, artifact_sha256=draft.sha256, content="# Mine", note=None, actor=ANN
    )
    assert [each.author for each in queries.list_artifacts(run_id)] == [None, "key:ann"]
