"""Finds the brand and the project that a person names on the command line."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.client.errors import Refused
from vm_webapp.client.resources import Resources
from vm_webapp.errors import ConfigurationError

MOST_SHOWN = 5


async def find_id(resources: Resources, id_or_name: str | None) -> str | None:
    """Return the id of a brand or a project, None where none was named.

    Args:
        resources: the brands or the projects of the API.
        id_or_name: its id, or its name to the letter.

    Raises:
        ConfigurationError: there is none, or several have the name.
        ApiError: the API cannot be asked.
    """
    if id_or_name is None:
        return None
    if _is_id(id_or_name):
        try:
            return (await resources.read(id_or_name))["id"]
        except Refused as error:
            if error.code != "not_found":
                raise
            raise ConfigurationError(f"there is no {resources.noun} {id_or_name}: check --{resources.noun}") from error
    found = await resources.named(id_or_name)
    if not found:
        raise ConfigurationError(
            f"there is no {resources.noun} with the name {id_or_name!r} that is not archived:"
            f" check --{resources.noun}, upper and lower case included"
        )
    if len(found) > 1:
        ids = ", ".join(each["id"] for each in found[:MOST_SHOWN]) + (", …" if len(found) > MOST_SHOWN else "")
        raise ConfigurationError(
            f"{len(found)} {resources.noun}s have the name {id_or_name!r}: give --{resources.noun} the id of one: {ids}"
        )
    return found[0]["id"]


def _is_id(text: str) -> bool:
    try:
        # UUID() would also take braces and 32 digits without hyphens, which may be a name.
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
