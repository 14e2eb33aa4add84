"""The lock file that a deployment installs: complete, hashed, without addresses, within the package's ranges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
DIRECT = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EMBEDDED = [Requirement(text) for text in PROJECT["project"]["optional-dependencies"]["embedded"]]
DEVELOPMENT = [Requirement(text) for text in PROJECT["dependency-groups"]["dev"]]


def locked() -> dict[str, tuple[Requirement, list[str]]]:
    """Return the lock's entries: canonical name → requirement and its hashes."""
    entries: dict[str, tuple[Requirement, list[str]]] = {}
    for entry in LOCK.replace("\\\n", " ").splitlines():
        pin, *hashes = re.split(r"\s+--hash=", entry.strip())
        found = Requirement(pin)
        entries[canonicalize_name(found.name)] = (found, hashes)
    return entries


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_every_dependency_is_locked_within_its_range(wanted: Requirement) -> None:
    (pin,) = locked()[canonicalize_name(wanted.name)][0].specifier
    assert pin.operator == "=="
    assert pin.version in wanted.specifier


@pytest.mark.parametrize("name", sorted(locked()))
def test_every_entry_is_pinned_with_hashes(name: str) -> None:
    requirement, hashes = locked()[name]
    assert [pin.operator for pin in requirement.specifier] == ["=="]
    assert hashes
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)


def test_the_lock_names_no_address_and_no_path() -> None:
    assert not re.search(r"://|^-|^/|\bfile:| @ ", LOCK, re.MULTILINE)


def test_a_deployment_installs_no_embedded_servers() -> None:
    assert {canonicalize_name(each.name) for each in EMBEDDED}.isdisjoint(locked())


@pytest.mark.parametrize("wanted", [*DIRECT, *EMBEDDED, *DEVELOPMENT], ids=lambda wanted: wanted.name)
def test_every_direct_dependency_has_a_range(wanted: Requirement) -> None:
    if wanted.name == PROJECT["project"]["name"]:
        return
    assert {pin.operator for pin in wanted.specifier} == {">=", "<"}
