"""Users of a Redis with the rights that a test gives them."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.support.processes import ROOT

PASSWORD = "secret-of-the-tests"


def documented_rights() -> list[str]:
    """Return the rights of the ``ACL SETUSER`` line in ``docs/redis.md``, without the user and the password."""
    (line,) = [each for each in _lines(ROOT / "docs" / "redis.md") if each.startswith("ACL SETUSER ")]
    _, _, name, switch, password, *rights = line.split()
    assert (name, switch, password) == ("vm", "on", ">PASSWORD")
    return rights


def set_user(redis_url: str, name: str, rights: list[str]) -> str:
    """Create a user with exactly these rights; return the URL that connects as this user."""
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rights)
    return redis_url.replace("unix://", f"unix://{name}:{PASSWORD}@")


def refusals(redis_url: str) -> list[str]:
    """Return what Redis has refused because of a user's rights: the user and the command, key or channel of each."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return [f"{each['username']}: {each['object']}" for each in client.acl_log()]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
