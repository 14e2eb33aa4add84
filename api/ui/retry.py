"""Puts a failed run back to work; one whose budget is spent gets a higher one by a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.operations.inputs import read_path
from api.schemas.runs import RunPath
from api.services import services
from api.ui.budget_fields import MONEY, TOKENS, read_budget
from api.ui.places import RUN, see_other
from api.ui.rendering import site_page
from api.ui.run import retryable_from
from api.ui.run_control import read_changes, show_conflict
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.errors import Conflict, InvalidInput
from vm_webapp.prices import money_text
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.records import RunRecord

STAGE = "from_stage"


async def show_retry(request: web.Request) -> web.Response:
    """Show the form that asks for a higher budget; ``from_stage`` in the query chooses the stage."""
    require(request, "editor")
    return await _form(request, {STAGE: request.query.get(STAGE, "")})


async def retry_run(request: web.Request) -> web.Response:
    """Queue a failed run again, from the stage that failed or from an earlier one, with a budget if one is given."""
    values = await read_changes(request)
    run_id, actor = read_path(RunPath, request).run_id, request[ACTOR]
    try:
        budget = read_budget(values, services(request).settings)

        def effect() -> str:
            _check_parts(run_id, budget, values)
            lifecycle.retry_run_if_failed(run_id, from_stage=values.get(STAGE) or None, actor=actor, budget=budget)
            return RUN.format(run_id=run_id)

        sent = await send_once(request, values, effect)
    except InvalidInput as error:
        return await _form(request, values, wrong={error.pointer.strip("/"): str(error)}, status=error.http_status)
    except Conflict as error:
        return await show_conflict(request, run_id, error)
    return see_other(sent.location)


def _check_parts(run_id: UUID, budget: Budget | None, values: Mapping[str, str]) -> None:
    """Check that a form which gives a budget gives each part of it that the run has: what is left out has no limit.

    Raises:
        InvalidInput: a part is missing; the pointer says which.
    """
    before = queries.read_run(run_id).budget
    if before is None or not {TOKENS, MONEY} & values.keys():
        return
    if before.tokens is not None and (budget is None or budget.tokens is None):
        raise InvalidInput("Say how many tokens the run may use in all.", pointer=f"/{TOKENS}")
    if before.money is not None and (budget is None or budget.money is None):
        raise InvalidInput("Say what the run may cost in all.", pointer=f"/{MONEY}")


async def _form(
    request: web.Request, values: Mapping[str, str], *, wrong: Mapping[str, str] | None = None, status: int = 200
) -> web.Response:
    """Return the page.

    Args:
        request: the request.
        values: the fields as they were filled in.
        wrong: what is wrong, by the field; ``budget`` is all of it.
        status: the status of the response.
    """
    run_id = read_path(RunPath, request).run_id

    def read() -> Mapping[str, Any]:
        run = queries.read_run(run_id)
        failed = next((stage.key for stage in run.stages if stage.status == "failed"), "")
        return {
            "run": run,
            "spending": queries.read_spending(run_id),
            "choices": [stage for stage in run.stages if stage.key in retryable_from(run)],
            "values": {**_budget_of(run), **values, STAGE: values.get(STAGE) or failed},
        }

    return await site_page(
        request, "retry.html", read, status=status, wrong=wrong or {}, once=values.get(ONCE) or new_token()
    )


def _budget_of(run: RunRecord) -> dict[str, str]:
    """Return the run's budget as the fields have it."""
    tokens, money = (run.budget.tokens, run.budget.money) if run.budget else (None, None)
    return {TOKENS: "" if tokens is None else str(tokens), MONEY: "" if money is None else money_text(money)}
