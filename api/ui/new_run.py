"""The page that starts a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.operations.call import Call
from api.schemas.runs import MAX_REQUEST_CHARACTERS
from api.services import Services, services
from api.ui.budget_fields import MONEY, TOKENS, has_prices, read_budget
from api.ui.context.choices import choices_of
from api.ui.forms import TAKEN_OUT, read_known_fields
from api.ui.places import RUNS, see_other
from api.ui.rendering import site_page
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.access.run_quota import QuotaExceeded
from vm_webapp.context import brands, projects
from vm_webapp.errors import InvalidInput
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import NewRun
from vm_webapp.text import is_storable, storable
from vm_webapp.workflows.model import Workflow

FIELDS = ("workflow", "request", "brand_id", "project_id", "auto_approve", "four_eyes", "priority", TOKENS, MONEY)
SENT_BEFORE = "This form has started a run already, and what is in it now has not been sent. Send it to start another."


async def show_new_run(request: web.Request) -> web.Response:
    """Show the form; the query may choose the workflow, the brand and the project."""
    require(request, "editor")
    return await _form(request, {name: request.query.get(name, "") for name in ("workflow", "brand_id", "project_id")})


async def create_run(request: web.Request) -> web.Response:
    """Start a run, and go to its page; show the form again, with what is wrong, if something is."""
    require(request, "editor")
    values = await read_known_fields(request, {*FIELDS, ONCE})
    call = Call.of(request)
    try:
        new = _read(values, call.services)

        def effect() -> str:
            return f"{RUNS}/{lifecycle.create_run(new, actor=call.actor, quota=call.run_quota).id}"

        sent = await send_once(request, values, effect)
    except InvalidInput as error:
        kept = {name: storable(value) for name, value in values.items()}
        return await _form(request, kept, wrong={error.pointer.strip("/"): str(error)}, status=422)
    except QuotaExceeded as error:
        return await _form(request, values, trouble=str(error), status=error.http_status)
    if sent.is_other:
        again = values | {ONCE: new_token()}
        return await _form(request, again, trouble=SENT_BEFORE, earlier=sent.location, status=409)
    return see_other(sent.location)


def _read(values: Mapping[str, str], own: Services) -> NewRun:
    """Return the run that a form asks for.

    Raises:
        InvalidInput: a field is wrong; the pointer says which.
    """
    name, text, priority = values.get("workflow", ""), values.get("request", ""), values.get("priority", "normal")
    if not name:
        raise InvalidInput("Pick a workflow.", pointer="/workflow")
    if not is_storable(name):
        raise InvalidInput("Pick a workflow of the list.", pointer="/workflow")
    workflow = own.catalog.get(name)
    if not text.strip():
        raise InvalidInput("Say what you want.", pointer="/request")
    if not is_storable(text):
        raise InvalidInput(TAKEN_OUT, pointer="/request")
    if len(text.strip()) > MAX_REQUEST_CHARACTERS:
        most = f"At most {MAX_REQUEST_CHARACTERS:,} characters; this has {len(text.strip()):,}."
        raise InvalidInput(most, pointer="/request")
    if priority not in ("normal", "low"):
        raise InvalidInput("Pick a priority of the list.", pointer="/priority")
    return NewRun(
        workflow,
        text.strip(),
        brand_id=_chosen(values, "brand_id"),
        project_id=_chosen(values, "project_id"),
        auto_approve="auto_approve" in values,
        four_eyes="four_eyes" in values,
        priority=cast("Literal['normal', 'low']", priority),
        budget=read_budget(values, own.settings),
    )


def _chosen(values: Mapping[str, str], name: str) -> UUID | None:
    given = values.get(name, "")
    try:
        return UUID(given) if given else None
    except ValueError:
        raise InvalidInput(f"Pick a {name.removesuffix('_id')} of the list.", pointer=f"/{name}") from None


async def _form(
    request: web.Request,
    values: Mapping[str, str],
    *,
    wrong: Mapping[str, str] | None = None,
    trouble: str | None = None,
    earlier: str | None = None,
    status: int = 200,
) -> web.Response:
    """Return the page.

    Args:
        request: the request.
        values: the fields as they were filled in.
        wrong: what is wrong, by the field.
        trouble: why it was not sent, where no field is wrong.
        earlier: the page of the run that this form has started before.
        status: the status of the response.
    """

    def read() -> dict[str, Any]:
        return {"brands": choices_of(brands), "projects": choices_of(projects)}

    return await site_page(
        request,
        "new_run.html",
        read,
        status=status,
        workflows=sorted(services(request).catalog.workflows.values(), key=_by_usefulness),
        values=dict.fromkeys(FIELDS, "") | dict(values),
        wrong=wrong or {},
        trouble=trouble,
        earlier=earlier,
        once=values.get(ONCE) or new_token(),
        most=MAX_REQUEST_CHARACTERS,
        reviewers_are_known=request[ACTOR].id is not None,
        has_prices=has_prices(services(request).settings),
    )


def _by_usefulness(workflow: Workflow) -> tuple[bool, str]:
    return not any(stage.needs_model for stage in workflow.stages), workflow.title.casefold()
