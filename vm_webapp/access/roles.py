"""Roles: what a caller may do. Each may do what the one before it may, and more."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["viewer", "editor", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # in ascending order


def includes(role: Role, needed: Role) -> bool:
    """Return whether a role may do what another one may."""
    return ROLES.index(role) >= ROLES.index(needed)
