"""A run uses the brand and the project that it was given: as they were, and both or neither."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.actors import OPERATOR
from tests.support.runs import create, read
from tests.support.snapshots import kept_by
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands, projects
from vm_webapp.errors import InvalidInput
from vm_webapp.runs import lifecycle

pytestmark = pytest.mark.usefixtures("database")


def a_brand(name: str = "Korn", **fields: Any) -> UUID:
    return brands.create({"name": name, **fields}, actor=OPERATOR).id


def a_project(brand_id: UUID | None, **fields: Any) -> UUID:
    return projects.create({"name": "Winter", "brand_id": brand_id, **fields}, actor=OPERATOR).id


def test_a_project_brings_its_brand() -> None:
    brand = a_brand(voice="warm", forbidden_words=["artisanal"])
    run = create(project_id=a_project(brand)).run
    assert run.brand_id == brand
    assert kept_by(run.id)["brand"]["voice"] == "warm"
    assert kept_by(run.id)["brand"]["forbidden_words"] == ["artisanal"]


@pytest.mark.parametrize("with_brand", [True, False])
def test_a_project_without_a_brand_leaves_the_brand_to_the_run(with_brand: bool) -> None:
    brand = a_brand() if with_brand else None
    run = create(brand_id=brand, project_id=a_project(None)).run
    assert run.brand_id == brand
    assert (kept_by(run.id)["brand"] is not None) == with_brand


def test_a_project_and_its_own_brand_fit() -> None:
    brand = a_brand()
    assert create(brand_id=brand, project_id=a_project(brand)).run.brand_id == brand


def test_a_project_of_another_brand_is_refused() -> None:
    ours = a_brand("Ours")
    with pytest.raises(InvalidInput, match=f"belongs to another brand, {ours}") as raised:
        create(brand_id=a_brand("Theirs"), project_id=a_project(ours))
    assert raised.value.pointer == "/brand_id"
    assert read("SELECT id FROM runs") == []


@pytest.mark.parametrize("name_it", [True, False])
def test_an_archived_brand_of_a_project_is_refused(name_it: bool) -> None:
    brand = a_brand()
    project = a_project(brand)
    brands.archive(brand, actor=OPERATOR)
    with pytest.raises(InvalidInput, match=f"the brand {brand} is archived") as raised:
        create(project_id=project, brand_id=brand if name_it else None)
    assert raised.value.pointer == ("/brand_id" if name_it else "/project_id")


@pytest.mark.parametrize("refresh", [True, False])
def test_a_fork_has_the_parents_brand_or_takes_it_as_it_is_now(refresh: bool) -> None:
    brand = a_brand(voice="warm")
    project = a_project(brand, objective="200 subscriptions")
    parent = create(project_id=project).run
    brands.change(brand, {"voice": "pompous"}, version=1, actor=OPERATOR)
    projects.change(project, {"objective": "300 subscriptions"}, version=1, actor=OPERATOR)
    fork = lifecycle.fork_run(
        parent.id, from_stage=parent.stages[0].key, request=None, actor=Actor("tests"), refresh_context=refresh
    )
    kept = kept_by(fork.id)
    assert kept["brand"]["voice"] == ("pompous" if refresh else "warm")
    assert kept["project"]["objective"] == ("300 subscriptions" if refresh else "200 subscriptions")
    assert kept["workflow"] == kept_by(parent.id)["workflow"]
    assert fork.brand_id == brand


def test_a_fork_of_a_project_that_has_moved_takes_its_new_brand() -> None:
    brand, other = a_brand("One"), a_brand("Other")
    project = a_project(brand)
    parent = create(project_id=project).run
    projects.change(project, {"brand_id": other}, version=1, actor=OPERATOR)
    fork = lifecycle.fork_run(
        parent.id, from_stage=parent.stages[0].key, request=None, actor=Actor("tests"), refresh_context=True
    )
    assert (fork.brand_id, kept_by(fork.id)["brand"]["name"]) == (other, "Other")


def test_a_fork_cannot_take_an_archived_brand() -> None:
    brand = a_brand()
    parent = create(brand_id=brand).run
    brands.archive(brand, actor=OPERATOR)
    with pytest.raises(InvalidInput, match="is archived and takes no new runs") as raised:
        lifecycle.fork_run(
            parent.id, from_stage=parent.stages[0].key, request=None, actor=Actor("tests"), refresh_context=True
        )
    assert raised.value.pointer == "/refresh_context"
    assert len(read("SELECT id FROM runs")) == 1


def test_a_fork_without_brand_and_project_has_none_to_refresh() -> None:
    parent = create().run
    fork = lifecycle.fork_run(
        parent.id, from_stage=parent.stages[0].key, request=None, actor=Actor("tests"), refresh_context=True
    )
    assert (fork.brand_id, kept_by(fork.id)["brand"]) == (None, None)


def test_an_unknown_project_is_refused() -> None:
    unknown = uuid4()
    with pytest.raises(InvalidInput, match=f"there is no project {unknown}") as raised:
        create(project_id=unknown)
    assert raised.value.pointer == "/project_id"
