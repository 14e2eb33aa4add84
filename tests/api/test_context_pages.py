"""The pages of brands and projects, as browsers use them: nothing typed is lost, and nobody's change is overwritten."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.browsers import Browser, signed_in
from tests.api.client import Api, Response
from tests.db.spending import finish
from tests.support.actors import OPERATOR
from tests.support.runs import create
from tests.support.work import WORKER, claim_next
from vm_webapp.context import brands, projects
from vm_webapp.db.models import Brand

FORM = {"name": "Pedal Bakery", "time_zone": "UTC"}


@pytest.fixture
async def editor(managed: Api) -> Browser:
    """A browser in which an editor is signed in."""
    return await signed_in(managed)


def brand(**values: Any) -> Brand:
    """Make a brand."""
    return brands.create({"name": "Pedal Bakery"} | values, actor=OPERATOR)


def the_brand() -> Brand:
    """Return the only brand."""
    (found,) = brands.list(limit=2, after=None, archived=True).items
    return found


def text(page: Response) -> str:
    return page.body.decode()


def hidden(page: Response, name: str) -> str:
    """Return a hidden field of the form on a page."""
    (found,) = re.findall(rf'name="{name}" value="([\w-]+)"', text(page))
    return str(found)


async def test_a_brand_is_made_with_all_that_its_form_says(editor: Browser) -> None:
    sent = await editor.post(
        "/ui/brands",
        name="  Pedal Bakery ",
        voice="Warm,\r\nand short.",
        facts="Since 2019\r\n\r\n  By bicycle \r\n",
        forbidden_words="cheap",
        max_running="5",
        time_zone="America/Sao_Paulo",
        budget_tokens="20,000",
    )
    made = the_brand()
    assert (sent.status, sent.headers["Location"]) == (303, f"/ui/brands/{made.id}")
    assert (made.name, made.voice, made.facts) == ("Pedal Bakery", "Warm,\nand short.", ["Since 2019", "By bicycle"])
    assert (made.max_running, made.time_zone) == (5, "America/Sao_Paulo")
    assert (made.day_budget_tokens, made.day_budget_money) == (20_000, None)
    page = text(await editor.get(sent.headers["Location"]))
    assert "Since 2019\nBy bicycle" in page
    assert "Today: 20,000 of 20,000 tokens left" in page
    assert ">Pedal Bakery</a>" in text(await editor.get("/ui/brands"))


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("name", "   ", "Give it a name."),
        ("name", "x" * 201, "At most 200 characters; this has 201."),
        ("name", "a\0b", "It had characters that cannot be stored"),
        ("voice", "x" * 20_001, "At most 20,000 characters; this has 20,001."),
        ("facts", f"fine\n{'x' * 1001}", "Line 2: at most 1,000 characters; this has 1,001."),
        ("facts", "\n".join("x" * 101), "At most 100 lines; these are 101."),
        ("max_running", "many", "Write a whole number, such as 5, or leave it empty."),
        ("max_running", "0", "Write a number from 1 to 10,000, or leave it empty."),
        ("max_running", "9" * 5000, "Write a whole number, such as 5, or leave it empty."),
        ("time_zone", "Mars/Olympus", "Must be the IANA name of a time zone, such as America/Sao_Paulo."),
        ("budget_tokens", "-1", "Write a whole number, such as 20000."),
        ("budget_money", "1.50", "has no price in VM_MODEL_PRICES"),
    ],
)
async def test_what_is_wrong_stands_beside_its_field_and_nothing_is_lost(
    editor: Browser, field: str, value: str, complaint: str
) -> None:
    page = await editor.post("/ui/brands", **FORM | {"audience": "People <who> bake", field: value})
    assert page.status == 422
    body = text(page)
    (said,) = re.findall(rf'id="{field}-wrong">(.*?)</p>', body)
    assert complaint in said
    assert "People &lt;who&gt; bake</textarea>" in body
    assert brands.list(limit=1, after=None, archived=True).items == ()
    assert (await editor.post("/ui/brands", **FORM, once=hidden(page, "once"))).status == 303


async def test_a_form_that_is_sent_twice_makes_one_brand(editor: Browser) -> None:
    token = hidden(await editor.get("/ui/brands/new"), "once")
    first = await editor.post("/ui/brands", **FORM, once=token)
    again = await editor.post("/ui/brands", **FORM, once=token)
    assert (first.status, again.status) == (303, 303)
    assert first.headers["Location"] == again.headers["Location"] == f"/ui/brands/{the_brand().id}"
    other = await editor.post("/ui/brands", **FORM | {"name": "Another"}, once=token)
    assert other.status == 409
    assert "has been saved already" in text(other)


async def test_of_two_tabs_the_later_one_sees_what_the_other_has_written(editor: Browser) -> None:
    path = f"/ui/brands/{brand(voice='Warm').id}"
    one, two = await editor.get(f"{path}/edit"), await editor.get(f"{path}/edit")
    opened = {"version": hidden(one, "version")}
    first = await editor.post(f"{path}/edit", **FORM, **opened, voice="Warmer", once=hidden(one, "once"))
    late = await editor.post(f"{path}/edit", **FORM, **opened, voice="Cooler", once=hidden(two, "once"))
    assert (first.status, late.status, the_brand().voice) == (303, 412, "Warmer")
    body = text(late)
    assert "Somebody has changed this brand" in body
    assert 'Saved meanwhile:</strong> <span class="as-typed">Warmer</span>' in body
    assert "\nCooler</textarea>" in body
    fields = {name: hidden(late, name) for name in ("version", "once")}
    assert (await editor.post(f"{path}/edit", **FORM, **fields, voice="Cooler")).status == 303
    assert the_brand().voice == "Cooler"


async def test_an_archived_brand_is_no_longer_changed(editor: Browser) -> None:
    made = brand()
    path = f"/ui/brands/{made.id}"
    form = await editor.get(f"{path}/edit")
    archived = await editor.post(f"{path}/archive")
    assert (archived.status, archived.headers["Location"]) == (303, path)
    assert (await editor.post(f"{path}/archive")).status == 303
    late = await editor.post(f"{path}/edit", **FORM, version=hidden(form, "version"))
    assert late.status in (409, 412)
    page = text(await editor.get(path))
    assert "it takes no new runs" in page
    assert "/edit" not in page
    assert "cannot be changed any more" in text(await editor.get(f"{path}/edit"))
    assert "Pedal Bakery" not in text(await editor.get("/ui/brands"))
    assert "Pedal Bakery" in text(await editor.get("/ui/brands?archived=yes"))


async def test_what_was_only_sent_back_is_not_stored_anew(editor: Browser) -> None:
    made = brand(facts=["A\nB", "C\u2028D"], voice="Warm")
    path = f"/ui/brands/{made.id}"
    form = {"name": "Pedal", "voice": "Warm", "facts": "A\r\nB\r\nC\u2028D", "time_zone": "UTC", "version": "1"}
    assert (await editor.post(f"{path}/edit", **form)).status == 303
    changed = the_brand()
    assert (changed.name, changed.facts, changed.version) == ("Pedal", ["A\nB", "C\u2028D"], 2)
    assert (await editor.post(f"{path}/edit", **form | {"version": "2"})).status == 303
    assert the_brand().version == 2


async def test_a_project_of_a_brand_that_was_archived_can_be_changed(editor: Browser) -> None:
    made = brand()
    project = projects.create({"name": "Spring", "brand_id": made.id}, actor=OPERATOR)
    brands.archive(made.id, actor=OPERATOR)
    form = {"name": "Spring", "brand_id": str(made.id), "objective": "More bread", "version": "1"}
    assert (await editor.post(f"/ui/projects/{project.id}/edit", **form)).status == 303
    assert projects.read(project.id).objective == "More bread"


async def test_a_brand_shows_its_runs_and_what_they_have_used(editor: Browser) -> None:
    made = brand(day_budget={"tokens": 1000, "money": None})
    run = create("content_calendar", brand_id=made.id).run
    create("content_calendar")
    finish(claim_next(run.id), WORKER)
    page = text(await editor.get(f"/ui/brands/{made.id}"))
    assert page.count('<li id="run-') == 1
    assert f"/ui/runs/{run.id}" in page
    (used,) = re.findall(r"This month: (.*)</p>", page)
    assert used.startswith("1 call of the model")
    assert f"<title>{datetime.now(UTC).date()}: " in page
    assert re.search(r"Today: \d+ of 1,000 tokens left", page)


async def test_a_project_is_made_changed_and_shows_its_brand(editor: Browser) -> None:
    made = brand()
    sent = await editor.post(
        "/ui/projects", name="Spring", brand_id=str(made.id), channels="Newsletter\nShop", starts_on="2026-03-01"
    )
    assert sent.status == 303
    (project,) = projects.list(limit=2, after=None, archived=False).items
    assert (project.brand_id, project.channels, str(project.starts_on)) == (
        made.id,
        ["Newsletter", "Shop"],
        "2026-03-01",
    )
    page = text(await editor.get(sent.headers["Location"]))
    assert "from 2026-03-01" in page
    assert f'/ui/brands/{made.id}">Pedal Bakery' in page
    wrong = await editor.post(
        f"{sent.headers['Location']}/edit",
        name="Spring",
        brand_id=str(made.id),
        version=str(project.version),
        starts_on="2026-03-01",
        ends_on="2026-02-01",
    )
    assert wrong.status == 422
    assert 'id="ends_on-wrong">The project ends before it starts.' in text(wrong)
    for field, value in {"starts_on": "tomorrow", "brand_id": "none"}.items():
        again = await editor.post("/ui/projects", name="Summer", **{field: value})
        assert (again.status, f'id="{field}-wrong"' in text(again)) == (422, True)


async def test_a_project_shows_what_its_runs_of_this_month_have_used(editor: Browser) -> None:
    project = projects.create({"name": "Spring"}, actor=OPERATOR)
    finish(claim_next(create("content_calendar", project_id=project.id).run.id), WORKER)
    assert re.search(r"By the runs of this month: \d+ tokens", text(await editor.get(f"/ui/projects/{project.id}")))


async def test_who_may_only_read_sees_no_door_to_change_anything(managed: Api) -> None:
    made = brand()
    viewer = await signed_in(managed, "viewer")
    page = text(await viewer.get(f"/ui/brands/{made.id}"))
    assert "<form" not in page.partition("<main")[2]
    assert "/new" not in text(await viewer.get("/ui/brands"))
    assert (await viewer.get(f"/ui/brands/{made.id}/edit")).status == 403
    assert (await viewer.post("/ui/brands", **FORM)).status == 403
    assert (await viewer.post(f"/ui/brands/{made.id}/archive")).status == 403


@pytest.mark.parametrize("path", ["/ui/brands/x", "/ui/projects/01890000-0000-7000-8000-000000000000"])
async def test_what_does_not_exist_is_not_found(editor: Browser, path: str) -> None:
    assert (await editor.get(path)).status == 404
    assert (await editor.get(f"{path}/edit")).status == 404


async def test_lists_go_on_where_a_page_ends(editor: Browser) -> None:
    for number in range(51):
        brand(name=f"Brand {number:02}")
    first = text(await editor.get("/ui/brands"))
    assert ">Brand 50</a>" in first
    assert ">Brand 00</a>" not in first
    (older,) = re.findall(r'href="(/ui/brands\?cursor=[^"]+)"', first)
    last = text(await editor.get(older))
    assert ">Brand 00</a>" in last
    assert f'hx-get="{older}"' in last
    assert (await editor.get("/ui/brands?cursor=nonsense")).status == 422


async def test_a_new_run_begins_with_the_brand_that_it_was_chosen_for(editor: Browser) -> None:
    made = brand()
    page = text(await editor.get(f"/ui/runs/new?brand_id={made.id}"))
    assert f'<option value="{made.id}" selected>' in page
