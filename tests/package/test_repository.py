"""The checkout runs on any machine, and the checks run the commands that the README shows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVE = "pip install uv && uv run python -m vm_webapp serve"
TEST = "pip install uv && uv run pytest"
# A home or a checkout of one machine. Spelled in pieces, so that this file does not name one itself.
MACHINE = re.compile(
    "|".join(["/" + "root/", "/" + r"home/\w", "/" + r"Users/\w", "/" + "work/", r"[A-Z]:\\" + "Users"])
)


def tracked() -> list[Path]:
    """Return the files that git tracks."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    naming = [path for path in tracked() if MACHINE.search(path.read_text(encoding="utf-8", errors="ignore"))]
    assert naming == []


def test_no_lock_with_addresses_and_no_secret_is_tracked() -> None:
    names = {path.name for path in tracked()}
    assert "requirements.lock" in names
    assert names.isdisjoint({"uv.lock", ".env"})


def test_the_readme_shows_the_two_commands_in_a_block_of_their_own() -> None:
    assert f"```\n{SERVE}\n{TEST}\n```" in (ROOT / "README.md").read_text()


def test_the_checks_run_what_the_readme_shows() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    install, run = TEST.split(" && ")
    assert re.search(rf"^{install.replace(' uv', '')}\b.* uv$", script, re.MULTILINE)
    assert re.search(rf"\b{run}$", script, re.MULTILINE)


def test_the_checks_can_be_run_from_anywhere() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert 'cd "$(dirname "$0")/.."' in script.read_text()


def test_the_readme_shows_pictures_that_are_here_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\((\S+)\)", (ROOT / "README.md").read_text())
    assert len(pictures) == 3
    for name in pictures:
        assert 0 < (ROOT / name).stat().st_size < 150_000, name
