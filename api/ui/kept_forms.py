"""Forms that could not take effect: their pages carry what was typed, so that it can be sent again.

The browser keeps it and not this service: it survives a restart, reaches whichever process comes next, and nobody can
fill a memory with it. Its token goes along, so what did take effect after all is not made twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from api.http.problems import RequestError
from api.ui.forms import read_form
from api.ui.places import WORKSPACE, local_path
from api.ui.sent_once import ONCE

PREFIX = "kept."  # of the fields' names in another form
ACTION = f"{PREFIX}action"


@dataclass(frozen=True, slots=True)
class KeptForm:
    """A form as it was sent.

    Attributes:
        action: where it goes.
        fields: its fields.
    """

    action: str
    fields: Mapping[str, str]

    @property
    def shown(self) -> dict[str, str]:
        """The fields that a person has filled in."""
        return {name: value for name, value in self.fields.items() if value and name != ONCE}

    @property
    def carried(self) -> dict[str, str]:
        """The fields under the names that they have in another form."""
        return {ACTION: self.action} | {f"{PREFIX}{name}": value for name, value in self.fields.items()}


async def form_of(request: web.Request) -> KeptForm | None:
    """Return the form of the workspace that a request has brought, None if it has none that can be sent again."""
    if request.method != "POST" or not request.path.startswith(WORKSPACE):
        return None
    try:
        return KeptForm(request.rel_url.raw_path_qs, await read_form(request))
    except (RequestError, web.HTTPException):
        return None


def carried_in(form: Mapping[str, str]) -> KeptForm | None:
    """Return the form that another one carries, None if it carries none."""
    action = form.get(ACTION, "")
    if not action.startswith(WORKSPACE) or local_path(action) != action:
        return None
    fields = {name.removeprefix(PREFIX): value for name, value in form.items() if name.startswith(PREFIX)}
    del fields["action"]
    return KeptForm(action, fields)
