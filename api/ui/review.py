"""The page on which a person decides about a draft: it is read beside what the brand says, edited, accepted or not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.operations.inputs import read_path
from api.schemas.reviews import MAX_CONTENT_CHARACTERS, MAX_FEEDBACK_CHARACTERS, StagePath
from api.services import services
from api.ui.diff import compare
from api.ui.documents import stage_of, version_in, versions_of
from api.ui.forms import read_known_fields
from api.ui.markdown import render_markdown
from api.ui.places import REVIEW, RUN, see_other
from api.ui.rendering import site_page
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.access.actor import Actor
from vm_webapp.errors import Conflict, InvalidInput
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import DraftChanged
from vm_webapp.runs.lifecycle.four_eyes import OwnRun
from vm_webapp.runs.queries import Approval
from vm_webapp.runs.records import ArtifactRecord
from vm_webapp.text import UNSTORABLE, is_storable, storable

FIELDS = frozenset({"decision", "artifact_sha256", "content", "note", "feedback", ONCE})
EARLIER_DRAFT = (
    "Nothing has been decided: the draft was written anew while you read the one before. This is the newest."
)


@dataclass(frozen=True, slots=True)
class Used:
    """A word that the brand forbids, and how often the draft has it."""

    word: str
    times: int


async def show_review(request: web.Request) -> web.Response:
    """Show the draft; ``version`` keeps an open page at the draft that it shows, ``compare`` shows what differs."""
    return await _page(request, {})


async def decide(request: web.Request) -> web.Response:
    """Accept the draft or request changes, and go on to the next one; show the page again if that was not possible."""
    require(request, "editor")
    given = await read_known_fields(request, FIELDS)
    path, actor = read_path(StagePath, request), request[ACTOR]
    values = await services(request).threads.run(lambda: _without_unchanged(path, given))
    kept = {name: storable(value) for name, value in values.items()}
    if values.get("decision") == "preview":
        return await _page(request, kept)

    def effect() -> str:
        _decide(path, values, actor)
        following = next_review(actor, path.run_id, path.key)
        return f"{_place(following)}?decided=yes" if following else RUN.format(run_id=path.run_id)

    try:
        _check(values)
        sent = await send_once(request, values, effect)
    except DraftChanged as error:
        return await _page(request, kept | {ONCE: new_token()}, trouble=EARLIER_DRAFT, status=error.http_status)
    except (Conflict, OwnRun, InvalidInput) as error:
        return await _page(request, kept, trouble=f"Nothing has been decided: {error}.", status=error.http_status)
    return see_other(sent.location)


def next_review(actor: Actor, run_id: UUID, stage: str) -> Approval | None:
    """Return the oldest draft but this one that a person may decide about, None if there is none."""
    waiting = queries.list_approvals_for(actor, limit=2)
    return next((each for each in waiting if (each.run_id, each.stage) != (run_id, stage)), None)


def used_words(forbidden: Iterable[str], text: str) -> list[Used]:
    """Return the forbidden words in their order, each with how often a text has it as a word of its own."""
    found = []
    for word in forbidden:
        pattern = rf"(?<!\w){re.escape(word.strip())}(?!\w)"
        found.append(Used(word, len(re.findall(pattern, text, re.IGNORECASE)) if word.strip() else 0))
    return found


def _decide(path: StagePath, values: Mapping[str, str], actor: Actor) -> None:
    digest = values.get("artifact_sha256", "")
    if values.get("decision") == "changes":
        feedback = values.get("feedback", "").strip()
        lifecycle.request_changes_if_waiting(
            path.run_id, path.key, artifact_sha256=digest, feedback=feedback, actor=actor
        )
        return
    lifecycle.approve_stage_if_waiting(
        path.run_id,
        path.key,
        artifact_sha256=digest,
        content=values.get("content"),
        note=values.get("note", "").strip() or None,
        actor=actor,
    )


def _without_unchanged(path: StagePath, values: dict[str, str]) -> dict[str, str]:
    """Return the fields without the text if it is the draft that was read; browsers change line ends, which is no edit.

    Compared with that draft and not with the newest: a text that nobody has edited must not replace a newer draft.
    """
    read = [each for each in queries.list_artifacts(path.run_id) if _is_read(each, path.key, values)]
    if not read or "content" not in values:
        return values
    draft = queries.read_artifact(path.run_id, path.key, version=read[-1].version).content
    if _plain(values["content"]) != _plain(draft):
        return values
    return {name: value for name, value in values.items() if name != "content"}


def _is_read(artifact: ArtifactRecord, stage: str, values: Mapping[str, str]) -> bool:
    return artifact.stage == stage and artifact.sha256 == values.get("artifact_sha256")


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def _check(values: Mapping[str, str]) -> None:
    """Check what was typed.

    Raises:
        InvalidInput: it is missing, too long or cannot be stored.
    """
    if not all(map(is_storable, values.values())):
        raise InvalidInput(f"the text {UNSTORABLE}; that is taken out below", pointer="")
    if values.get("decision") not in ("approve", "changes"):
        raise InvalidInput("say whether you approve the draft or request changes", pointer="")
    if values["decision"] == "changes" and not values.get("feedback", "").strip():
        raise InvalidInput("say what should change", pointer="")
    if "content" in values and not values["content"].strip():
        raise InvalidInput("the edited draft is empty", pointer="")
    for name, most in (
        ("content", MAX_CONTENT_CHARACTERS),
        ("note", MAX_FEEDBACK_CHARACTERS),
        ("feedback", MAX_FEEDBACK_CHARACTERS),
    ):
        if len(values.get(name, "")) > most:
            raise InvalidInput(f"the {name} has {len(values[name]):,} characters; it may have {most:,}", pointer="")


async def _page(
    request: web.Request, values: Mapping[str, str], *, trouble: str | None = None, status: int = 200
) -> web.Response:
    """Return the page.

    Args:
        request: the request.
        values: the fields as they were filled in.
        trouble: why nothing was decided, or None.
        status: the status of the response.
    """
    path, actor = read_path(StagePath, request), request[ACTOR]
    version = version_in(request, "version") if request.method == "GET" else None
    other = version_in(request, "compare") if request.method == "GET" else None

    def read() -> Mapping[str, Any]:
        run = queries.read_run(path.run_id)
        stage, origin = stage_of(run, path.key), queries.read_origin(path.run_id)
        versions = versions_of(path.run_id, path.key)
        shown = queries.read_artifact(path.run_id, path.key, version=version)
        before = None if other is None else queries.read_artifact(path.run_id, path.key, version=other)
        forbidden = (origin.brand or {}).get("forbidden_words", ())
        is_newest = shown.artifact.version == versions[-1].version
        return {
            "run": run,
            "stage": stage,
            "origin": origin,
            "shown": shown.artifact,
            "newest": versions[-1].version,
            "content": shown.content,
            "rendered": render_markdown(shown.content),
            "difference": before and compare(before.content, shown.content),
            "other": other,
            "edited": values.get("content"),
            "preview": render_markdown(values["content"]) if values.get("content") else None,
            "used": used_words(forbidden, shown.content),
            "remarks": [text for key, text in queries.read_remarks(path.run_id) if key == path.key],
            "is_own": origin.four_eyes and actor.id in (None, origin.creator_id),
            "is_open": stage.status == "waiting_approval" and is_newest,
            "spending": queries.read_spending(path.run_id) if run.budget else None,
            "following": next_review(actor, path.run_id, path.key),
        }

    return await site_page(
        request,
        "review.html",
        read,
        status=status,
        values={"note": "", "feedback": "", **values},
        trouble=trouble,
        decided="decided" in request.query,
        once=values.get(ONCE) or new_token(),
        most_content=MAX_CONTENT_CHARACTERS,
        most_feedback=MAX_FEEDBACK_CHARACTERS,
        here=REVIEW.format(run_id=path.run_id, key=path.key),
    )


def _place(review: Approval) -> str:
    return REVIEW.format(run_id=review.run_id, key=review.stage)
