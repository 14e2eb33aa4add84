"""``keys``: create, list and revoke the keys of API clients."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from vm_webapp.access.actor import operator_at_terminal
from vm_webapp.access.keys import create_key, list_keys, revoke_key
from vm_webapp.access.roles import Role
from vm_webapp.cli.database import open_database
from vm_webapp.cli.output import as_called
from vm_webapp.settings import Settings


def run_create(settings: Settings, name: str, role: Role | None, lasts: timedelta | None) -> int:
    """Create a key and print its secret."""
    with open_database(settings):
        made = create_key(name, actor=operator_at_terminal(), role=role, lasts=lasts)
        try:
            print(made.secret, flush=True)  # alone on standard output, so that a script can capture it
        except OSError:
            revoke_key(name, actor=operator_at_terminal())  # nobody has seen its secret
            raise
    _note(
        f"key {made.name}, role {made.role}{'' if role else ' (--role gives another)'}, {_until(made.expires_at)};"
        " it is shown this once: send it as Authorization: Bearer"
    )
    return 0


def run_list(settings: Settings) -> int:
    """Print every key without its secret."""
    with open_database(settings):
        found = list_keys()
    for key in found:
        used = f"last used {_minute(key.last_used_at)}" if key.last_used_at else "never used"
        print(f"{key.state:8} {key.name:24} {key.role:8} {_until(key.expires_at):32} {used}")
    if not found:
        _note("there is no key: python -m vm_webapp keys create NAME makes one")
    return 0


def run_revoke(settings: Settings, name: str) -> int:
    """Revoke a key."""
    with open_database(settings):
        revoke_key(name, actor=operator_at_terminal())
    print(f"revoked {name}")
    return 0


def _until(moment: datetime | None) -> str:
    return f"valid until {_minute(moment)}" if moment else "valid until it is revoked"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _note(text: str) -> None:
    print(as_called(text), file=sys.stderr)
