"""On a laptop, too: one command with its child processes and embedded servers writes no secret anywhere."""

from __future__ import annotations

import pytest

from tests.fakes.behaviours import refusal
from tests.fakes.model_server import ModelServer
from tests.secrets.markers import Markers
from tests.support.commands import command
from tests.support.folders import open_folder
from tests.support.forms import only_in_full
from tests.support.serving import served
from tests.support.waiting import eventually


@pytest.mark.parametrize("processes", [only_in_full("1"), "2"])
def test_one_command_writes_no_secret(model: ModelServer, capsys: pytest.CaptureFixture[str], processes: str) -> None:
    markers = Markers()
    env = {
        "KIMI_API_KEY": markers.plant("KIMI_API_KEY"),
        "KIMI_BASE_URL": model.base_url,
        "VM_API_TOKEN": markers.plant("VM_API_TOKEN"),
        "AWS_SECRET_ACCESS_KEY": markers.plant("AWS_SECRET_ACCESS_KEY"),
        "LOG_LEVEL": "DEBUG",
        "WEB_CONCURRENCY": processes,
    }
    quoted = f"Authorization: Bearer {env['KIMI_API_KEY']}"
    with open_folder() as folder, served(folder / "workspace", **env) as serving:
        eventually(serving.ready, "ready", seconds=40)
        serving.client.headers["Authorization"] = f"Bearer {env['VM_API_TOKEN']}"
        serving.run_to_the_end()
        model.enqueue(refusal(400, "invalid_request_error", quoted))
        serving.run_to_the_end()
        local = env | {"VM_WORKSPACE_ROOT": str(folder / "workspace")}
        a_run = ("run", "a text", "--workflow", "smoke", "--yes", "--output", str(folder / "artifacts"))
        said = [command(capsys, local, *arguments) for arguments in (("doctor",), ("keys", "list"), a_run)]
        traces = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        traces |= {f"command {number}": f"{each}".encode() for number, each in enumerate(said)}
        assert any(path.endswith("log/stderr") for path in traces)
        assert not markers.found_in(traces)
