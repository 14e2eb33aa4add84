"""Clients made by generators from the committed document create runs, follow them, review, change and page.

The generators are downloaded, so this is in the full form alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folders import open_folder
from tests.support.processes import ROOT
from tests.support.serving import served

TOKEN = "a-token-of-the-tests"
HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs" / "openapi.json"
PYTHON_GENERATOR = "openapi-python-client==0.29.1"
NEEDED_IN_PYTHON = ("httpx", "attrs", "python-dateutil")
NEEDED_IN_TYPESCRIPT = {
    "openapi-typescript": "7.13.0",
    "openapi-fetch": "0.17.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.0",
}
STRICT = {
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "types": ["node"],
}

pytestmark = [pytest.mark.only_in_full, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a service that asks for a key."""
    with open_folder() as root, served(root / "vm", "--host", "0.0.0.0", VM_API_TOKEN=TOKEN) as running:
        yield f"http://localhost:{running.client.base_url.port}"


def run(*command: str, folder: Path) -> str:
    """Run a command; return what it prints."""
    # Not as a part of this project, whose packages a generated client must not need.
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    ran = subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_a_python_client(address: str, tmp_path: Path) -> None:
    config = ("--config", str(HERE / "generator.json"), "--meta", "none", "--output-path", "vm_client")
    said = run("uvx", PYTHON_GENERATOR, "generate", "--path", str(DOCUMENT), *config, folder=tmp_path)
    assert "warning" not in said.lower(), said
    shutil.copy(HERE / "journey.py", tmp_path)
    needed = [word for name in NEEDED_IN_PYTHON for word in ("--with", name)]
    said = run("uv", "run", "--no-project", *needed, "python", "journey.py", address, TOKEN, folder=tmp_path)
    assert said.splitlines()[-1] == "done"


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_a_typescript_client(address: str, tmp_path: Path) -> None:
    package = {"private": True, "type": "module", "dependencies": NEEDED_IN_TYPESCRIPT}
    (tmp_path / "package.json").write_text(json.dumps(package))
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": STRICT, "files": ["journey.ts"]}))
    run("npm", "install", "--no-audit", "--no-fund", folder=tmp_path)
    run("npx", "openapi-typescript", str(DOCUMENT), "-o", "api.d.ts", folder=tmp_path)
    shutil.copy(HERE / "journey.ts", tmp_path)
    # Compiled strictly: what the document leaves out is an error here.
    run("npx", "tsc", "--project", ".", folder=tmp_path)
    assert run("node", "journey.js", address, TOKEN, folder=tmp_path).splitlines()[-1] == "done"
