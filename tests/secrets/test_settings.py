"""A secret in any variable, the wrong ones included, is not shown: by no message, no ``repr`` and no traceback."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TypeGuard

import pytest

from tests.secrets.markers import Markers
from tests.support.commands import command
from tests.support.processes import ROOT, clean_environment
from vm_webapp import settings as settings_module
from vm_webapp.errors import ConfigurationError
from vm_webapp.settings import read_settings

# Every other variable has a rule that a secret does not meet. These are shown on purpose: they hold no secret.
SHOWN = {
    *("KIMI_MODEL", "KIMI_BASE_URL", "VM_WORKSPACE_ROOT", "VM_WORKFLOWS_PATH"),
    *("RENDER_GIT_COMMIT", "RENDER_API_URL", "VM_AUTOSCALE_SERVICE_ID"),
}
SECRET = {
    *("VM_DB_URL", "VM_DB_DIRECT_URL", "VM_REDIS_URL", "KIMI_API_KEY", "VM_API_TOKEN", "RENDER_API_KEY"),
    *("OTEL_EXPORTER_OTLP_HEADERS", "JUDOSCALE_URL"),
}
ANY_TEXT = {"RENDER", "OTEL_SERVICE_NAME"}  # compared with a word, or sent to the collector; shown nowhere
RESPELLED = ("http://user:{}@host/v1", "https://host/v1?key={}", "http://host/v1#{}", "{}://host", "postgres://{}@:x")
CRASHES = """
import sys, threading
from vm_webapp.logs import configure_logging
from vm_webapp.settings import read_settings

def crash(settings, secret):
    header = {"Authorization": f"Bearer {secret}"}
    raise RuntimeError(f"it broke, with {settings}")

settings = read_settings()
configure_logging("DEBUG", json=sys.argv[1] == "json")
thread = threading.Thread(target=crash, args=(settings, settings.api_token))
thread.start()
thread.join()
crash(settings, settings.kimi_api_key)
"""


def variables() -> set[str]:
    """Return the names of all variables that the program reads."""
    calls = (each for each in ast.walk(ast.parse(Path(settings_module.__file__).read_text())) if _asks_env(each))
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def _asks_env(node: ast.AST) -> TypeGuard[ast.Call]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return isinstance(node.func.value, ast.Name) and node.func.value.id == "env"


def test_it_is_known_of_each_variable_whether_it_holds_a_secret() -> None:
    assert variables() >= SHOWN | SECRET | ANY_TEXT
    assert len(variables()) > 20


@pytest.mark.parametrize("name", sorted(variables() - SHOWN - SECRET - ANY_TEXT))
def test_a_secret_in_the_wrong_variable_is_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    markers = Markers()
    env = {"VM_WORKSPACE_ROOT": str(tmp_path / "none"), name: markers.plant("a secret")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, env[name])
        with pytest.raises(ConfigurationError):
            read_settings()  # before any of the commands starts something that does not end
    for arguments in (("serve",), ("worker",), ("doctor",), ("migrate", "status")):
        said = command(capsys, env, *arguments)
        assert (said.code, said.errors.count("\n")) == (2, 1), said
        assert name in said.errors
        assert not markers.found_in({"out": said.out.encode(), "errors": said.errors.encode()})


@pytest.mark.parametrize("name", ["KIMI_BASE_URL", "VM_DB_URL", "VM_DB_DIRECT_URL", "VM_REDIS_URL", "JUDOSCALE_URL"])
@pytest.mark.parametrize("spelled", RESPELLED)
def test_a_secret_in_an_address_that_is_refused_is_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, spelled: str
) -> None:
    markers = Markers()
    env = {"VM_WORKSPACE_ROOT": str(tmp_path / "none"), "VM_DB_URL": "postgresql://127.0.0.1:1/vm"}
    said = command(capsys, env | {name: spelled.format(markers.plant("a secret"))}, "worker")
    assert said.code == 2, said
    assert name in said.errors
    assert not markers.found_in({"out": said.out.encode(), "errors": said.errors.encode()})


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_crash_shows_the_settings_of_no_frame(style: str) -> None:
    markers = Markers()
    env = {name: markers.plant(name) for name in ("KIMI_API_KEY", "VM_API_TOKEN")}
    env["JUDOSCALE_URL"] = f"https://127.0.0.1:1/api/{markers.plant('judoscale')}"
    for name, scheme in (("VM_DB_URL", "postgresql"), ("VM_DB_DIRECT_URL", "postgresql"), ("VM_REDIS_URL", "redis")):
        env[name] = f"{scheme}://user:{markers.plant(name)}@127.0.0.1:1/0"
    started = [sys.executable, "-X", "dev", "-c", CRASHES, style]
    said = subprocess.run(started, env=clean_environment() | env, cwd=ROOT, capture_output=True, check=False)
    assert said.returncode == 1
    assert said.stderr.count(b"it broke") >= 2
    assert not markers.found_in({"stdout": said.stdout, "stderr": said.stderr})
