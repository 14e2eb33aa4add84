"""The account of the embedded PostgreSQL: created once, however many processes start on a new machine together."""

from __future__ import annotations

import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vm_webapp.errors import ConfigurationError
from vm_webapp.local.account import ACCOUNT, servers_user

ROOT = pwd.getpwuid(0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the account: ``useradd`` writes the file ``made``, a line a call, and takes its time."""
    made = tmp_path / "made"

    def look_up(name: str) -> pwd.struct_passwd:
        if name == ACCOUNT and not made.exists():
            raise KeyError(name)
        return ROOT

    useradd = tmp_path / "useradd"
    useradd.write_text(f"#!/bin/sh\nsleep 0.2\necho made >> {made}\n")
    useradd.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(pwd, "getpwnam", look_up)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


def test_starts_that_come_together_make_one_account(machine: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: servers_user(), range(4)))
    assert found == [ROOT] * 4
    assert machine.read_text() == "made\n"


def test_an_account_that_cannot_be_made_says_why(machine: Path) -> None:
    (machine.parent / "useradd").write_text("#!/bin/sh\necho useradd: cannot lock /etc/passwd >&2\nexit 1\n")
    with pytest.raises(ConfigurationError, match="vm-webapp-pg cannot be made: useradd: cannot lock /etc/passwd"):
        servers_user()


def test_an_ordinary_user_needs_no_account(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert servers_user() is None
    assert not machine.exists()
