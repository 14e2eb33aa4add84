"""Brands and projects, as far as a run refers to them."""

from __future__ import annotations

from typing import Literal, cast

from vm_webapp.client.connection import Connection, path_of
from vm_webapp.client.shapes import Resource

AT_A_TIME = 200


class Resources:
    """The brands or the projects of an API. Every call raises as ``Connection.post``.

    Args:
        connection: the connection to the API.
        noun: which of the two.
    """

    def __init__(self, connection: Connection, noun: Literal["brand", "project"]) -> None:
        self._connection = connection
        self._all = f"{noun}s"
        self.noun = noun

    async def read(self, resource_id: str) -> Resource:
        """Return one."""
        return cast(Resource, await self._connection.get(path_of(self._all, resource_id)))

    async def named(self, name: str) -> list[Resource]:
        """Return those with exactly this name, archived ones left out: names are not unique."""
        items = self._connection.items(path_of(self._all), limit=AT_A_TIME, position="cursor")
        return [cast(Resource, item) async for item in items if item["name"] == name]
