"""Takes README's pictures of the workspace: home, a run while its document is written, and a review.

uv run python -m benchmarks.screenshots [--folder docs/images]

The API, the worker, the databases, the runs and the browser are real. In place of a model a fake server writes the
texts below, with the wire format of a real one and at its pace.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from uuid import UUID

from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import WITHOUT_IT, find_chromium, started_chromium
from tests.browser.conftest import key_of, watched
from tests.browser.watched import Watched, follows
from tests.chaos.harness import own_postgres, own_redis
from tests.fakes.behaviours import Behaviour, refusal
from tests.fakes.model_server import ModelServer
from tests.support.deployment import deployment, managed_environment
from tests.support.folders import open_folder
from tests.support.processes import ROOT
from tests.support.runs import create, wait_until_still
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.budget import Budget

FOLDER = ROOT / "docs" / "images"
MOST_BYTES = 150_000
VIEW = {"width": 1100, "height": 800}
ANN = Actor("key:ann", "editor", "ann")
PRICES = '{"currency": "EUR", "models": {"*": {"prompt": 0.60, "completion": 2.50}}}'
REMARK = "Name the delivery time, and do not call it cheap."
BAKERY = {
    "name": "Velo Bakery",
    "voice": "Warm and exact. Short sentences, no exclamation marks.",
    "audience": "Early risers in the old town who have no bakery near by.",
    "facts": ["Delivers by bicycle before eight", "Flour from three farms within 40 km"],
    "forbidden_words": ["cheap", "best in town"],
}
MESSAGE = """# Message and structure

## Promise

Bread that is still warm when you open the door. We bake at four and deliver by bicycle before eight.

## Who it is for

| Reader | What they want | What we say |
| --- | --- | --- |
| Early risers | Rolls without leaving home | At your door before eight |
| Families | One order for the week | Order once, change any day |

## Structure

1. The promise, with the map of streets
2. Three loaves, with their farms
3. The first week on trial
"""
DRAFT = MESSAGE.replace(
    "We bake at four and deliver by bicycle before eight.", "Cheap, fresh and delivered by bicycle."
)
RESEARCH = "# Research\n\nTwo hundred households in the old town have no bakery within ten minutes on foot.\n"
STRATEGY = "# Strategy\n\nOne street after another: each week a street hears of us from those who order already.\n"
PLAN = """# 90-day plan

## Weeks 1 to 4: two streets

The school opens at eight, and parents pass the oven twice a day. A bag with two rolls hangs at forty doors on the first
Saturday, with a card that says how to order.

| Week | What | Who | Cost |
| --- | --- | --- | --- |
| 1 | Forty bags in Linden Street | Both | 48 € |
| 2 | The same in Mill Street, and a call to everybody who ordered | Eva | 60 € |
| 3 | A table before the school on Friday | Tom | 35 € |
| 4 | Count orders by street, and choose the next two | Both | 0 € |

## Weeks 5 to 8: what neighbours say

Who orders for the third time gets a card for a neighbour. It names the street and not a discount.
"""
TOPICS = "# Topic map\n\nFlour, time and the way of a loaf through the town before it is light.\n"
CALENDAR = "# Publishing calendar\n\nMonday: the loaf of the week. Thursday: a farm. Saturday: a street.\n"


def at_pace(text: str, pause: float = 0.1) -> Behaviour:
    """Write a text in pieces, so many seconds apart."""
    return Behaviour(text=text, pause=pause)


def finished(writer: ModelServer) -> None:
    """Let a run end well, and another one fail."""
    writer.enqueue(at_pace(TOPICS), at_pace(CALENDAR))
    wait_until_still(create("content_calendar", "A calendar for a bakery that delivers by bicycle").run.id)
    writer.enqueue(at_pace(TOPICS), refusal(400, "invalid_request_error", "the prompt is longer than the model reads"))
    wait_until_still(create("content_calendar", "A calendar with every article of last year").run.id)


def reviewed(writer: ModelServer, brand: UUID) -> UUID:
    """Return a run whose second draft waits for a review, after changes were requested."""
    writer.enqueue(at_pace(DRAFT), at_pace(MESSAGE.replace("Order once", "Best in town: order once")))
    run_id = create("landing_page", "A page for the first hundred customers", brand_id=brand, actor=ANN).run.id
    wait_until_still(run_id)
    (draft,) = queries.list_artifacts(run_id)
    lifecycle.request_changes_if_waiting(run_id, draft.stage, artifact_sha256=draft.sha256, feedback=REMARK, actor=ANN)
    wait_until_still(run_id)
    return run_id


def half_written(writer: ModelServer, brand: UUID) -> UUID:
    """Return a run whose second document waits for a review, and whose last one will take long."""
    writer.enqueue(at_pace(RESEARCH, 0.3), at_pace(STRATEGY, 0.3), at_pace(PLAN, 0.3))
    request = "A 90-day plan for a bakery that delivers by bicycle. Two people, 900 € a month, no paid search."
    run_id = create("plan_90d", request, brand_id=brand, actor=ANN, budget=Budget(tokens=60_000)).run.id
    wait_until_still(run_id)
    return run_id


def approve(run_id: UUID) -> None:
    """Accept the draft of the strategy."""
    (draft,) = [each for each in queries.list_artifacts(run_id) if each.stage == "strategy"]
    lifecycle.approve_stage_if_waiting(
        run_id, draft.stage, artifact_sha256=draft.sha256, content=None, note=None, actor=ANN
    )


def keep(page: Page, folder: Path, name: str) -> None:
    """Keep a picture of what a tab shows.

    Raises:
        SystemExit: it has more than ``MOST_BYTES``.
    """
    file = folder / f"{name}.png"
    page.screenshot(path=file, animations="disabled")
    size = file.stat().st_size
    print(f"{file}: {size:,} bytes")
    if size > MOST_BYTES:
        raise SystemExit(f"{file} has more than {MOST_BYTES:,} bytes: let it show less")


def picture(tab: Watched, folder: Path, writing: UUID, waiting: UUID) -> None:
    """Take the three pictures."""
    page = tab.goto(f"/ui/runs/{writing}")
    follows(page)
    approve(writing)
    expect(page.locator(".writing")).to_contain_text("Forty bags in Linden Street")
    keep(page, folder, "run")
    page = tab.goto("/")
    follows(page)
    expect(page.get_by_role("region", name="In progress").get_by_role("listitem")).to_have_count(1)
    keep(page, folder, "home")
    page = tab.goto(f"/ui/reviews/{waiting}/message")
    follows(page)
    expect(page.get_by_text("1× in the draft")).to_be_visible()
    keep(page, folder, "review")


def take(browser: Browser, folder: Path) -> None:
    """Start the services, let them work, and take the pictures."""
    options = {"viewport": VIEW, "timezone_id": "Europe/Berlin", "locale": "en-GB", "color_scheme": "light"}
    with own_postgres() as postgres, own_redis() as redis, ModelServer() as writer, open_folder("vm-pictures-") as root:
        model = {"KIMI_API_KEY": "sk-of-the-pictures", "KIMI_BASE_URL": writer.base_url, "VM_MODEL_PRICES": PRICES}
        env = managed_environment(postgres.url, redis.url, root, VM_API_TOKEN="a-token-of-the-pictures", **model)
        with deployment(env, root) as service, watched(browser, service.url, **options) as tab:
            tab.sign_in(key_of("ann"))
            brand = brands.create(BAKERY, actor=ANN).id
            finished(writer)
            waiting = reviewed(writer, brand)
            picture(tab, folder, half_written(writer, brand), waiting)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    found = find_chromium()
    if found is None:
        raise SystemExit(WITHOUT_IT)
    given.folder.mkdir(parents=True, exist_ok=True)
    with started_chromium(found) as browser:
        take(browser, given.folder)


if __name__ == "__main__":
    main()
