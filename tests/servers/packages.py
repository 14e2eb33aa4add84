"""Starts servers from packages, each in an environment of its own, and ends them with all their processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers.document import TEXT
from tests.support.processes import ROOT, Program
from tests.support.waiting import eventually

KEY = "sk-right-0123456789"
# Each is tried with these releases, and ``docs/models.md`` names them.
LITELLM = ("litellm[proxy]==1.108.7",)
LLAMA_CPP = ("xllamacpp==2026.10.11549", "gguf==0.19.0")
ROTEL = ("rotel==0.0.1a15",)  # a collector of traces; docs/observability.md names it
MLX_LM = ("mlx-lm==0.32.2", "mlx[cpu]==0.32.4")
INSTALL_SECONDS = 600.0  # the first time; later starts take seconds
CONTEXT_TOKENS = 32_768
SHORT_CONTEXT_TOKENS = 512


@dataclass(frozen=True)
class Endpoint:
    """A server's address up to and with ``/v1``, and a model that it serves."""

    base_url: str
    model: str

    def env(self, **changes: str) -> dict[str, str]:
        """Return the variables that name it, with changes."""
        return {"KIMI_BASE_URL": self.base_url, "KIMI_MODEL": self.model, "KIMI_API_KEY": KEY, **changes}


@contextmanager
def endpoints(folder: Path) -> Iterator[dict[str, Endpoint]]:
    """Run every server during the block, and yield where they listen, by their names."""
    with ExitStack() as stack:
        llama = stack.enter_context(llama_cpp(folder / "llama", CONTEXT_TOKENS))
        short = stack.enter_context(llama_cpp(folder / "short", SHORT_CONTEXT_TOKENS))
        lite = stack.enter_context(litellm(folder / "litellm", _model_list(llama, short)))
        yield {
            "llama.cpp": llama,
            "llama.cpp, short": short,
            "LiteLLM": Endpoint(lite, "mocked"),
            "LiteLLM before llama.cpp": Endpoint(lite, "relayed"),
            "mlx_lm": stack.enter_context(mlx_lm(folder / "mlx")),
        }


@contextmanager
def llama_cpp(folder: Path, context_tokens: int) -> Iterator[Endpoint]:
    """Run llama.cpp's server. With one model it takes any model's name."""
    folder.mkdir(parents=True)
    port = _free_port()
    script = ("-m", "tests.servers.llama_cpp", str(folder), str(port), KEY, str(context_tokens))
    with _server(_python(LLAMA_CPP, *script), port, "/health", folder):
        yield Endpoint(f"http://127.0.0.1:{port}/v1", "tiny")


@contextmanager
def mlx_lm(folder: Path) -> Iterator[Endpoint]:
    """Run ``mlx_lm.server``. It wants no key."""
    model = folder / "tiny"
    writes = _python(MLX_LM, "-m", "tests.servers.mlx_model", str(model))
    subprocess.run(writes, cwd=ROOT, env=_environment(), check=True, timeout=INSTALL_SECONDS)
    port = _free_port()
    serves = _python(MLX_LM, "-m", "mlx_lm", "server", "--model", str(model), "--port", str(port))
    with _server(serves, port, "/health", folder, HF_HUB_OFFLINE="1", HF_HOME=str(folder / "hub")):
        yield Endpoint(f"http://127.0.0.1:{port}/v1", str(model))


@contextmanager
def litellm(folder: Path, model_list: list[dict[str, Any]]) -> Iterator[str]:
    """Run a LiteLLM proxy with a master key and without a database; yield its address with ``/v1``."""
    folder.mkdir(parents=True)
    port = _free_port()
    config = {
        "model_list": model_list,
        "litellm_settings": {"num_retries": 0},
        "general_settings": {"master_key": KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    arguments = ("--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port))
    command = [_uv(), "tool", "run", "--quiet", "--python", "3.11", "--from", *LITELLM, "litellm", *arguments]
    with _server(command, port, "/health/liveliness", folder, LITELLM_LOCAL_MODEL_COST_MAP="True"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def rotel(receiver: str, folder: Path) -> Iterator[str]:
    """Run Rotel, a collector for OpenTelemetry; yield its endpoint. It sends on to ``receiver`` what it takes."""
    folder.mkdir(parents=True)
    port, unused = _free_port(), _free_port()
    options = {
        "otlp-http-endpoint": f"127.0.0.1:{port}",
        "otlp-grpc-endpoint": f"127.0.0.1:{unused}",
        "exporter": "otlp",
        "otlp-exporter-protocol": "http",
        "otlp-exporter-endpoint": receiver,
    }
    # The package has a program that only its own library starts.
    start = "import os, rotel, sys; os.execv(os.path.dirname(rotel.__file__) + '/rotel-agent', sys.argv)"
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    with _server(_python(ROTEL, "-c", start, "start", *arguments), port, "/", folder, expects=404):
        yield f"http://127.0.0.1:{port}"


def _model_list(llama: Endpoint, short: Endpoint) -> list[dict[str, Any]]:
    """Return LiteLLM's models: mocked ones, and others that it passes on to a server."""
    mocked = {
        "mocked": TEXT,
        "rate-limited": "litellm.RateLimitError",
        "failing": "litellm.InternalServerError",
        "short-context": "litellm.ContextWindowExceededError",
        "breaking-off": "Exception: mock_streaming_error",
    }
    relayed = {
        "relayed": {"api_base": llama.base_url, "api_key": KEY},
        "relayed-short": {"api_base": short.base_url, "api_key": KEY},
        "relayed-wrong-key": {"api_base": llama.base_url, "api_key": "sk-wrong"},
        "relayed-nowhere": {"api_base": f"http://127.0.0.1:{_free_port()}/v1", "api_key": KEY},
    }
    params: dict[str, dict[str, Any]] = {
        **{name: {"api_key": "none", "mock_response": response} for name, response in mocked.items()},
        **relayed,
    }
    return [{"model_name": name, "litellm_params": {"model": "openai/tiny", **each}} for name, each in params.items()]


@contextmanager
def _server(
    command: list[str], port: int, health: str, folder: Path, *, expects: int = 200, **env: str
) -> Iterator[None]:
    guarded = [sys.executable, "-m", "tests.servers.guarded", str(os.getpid()), *command]
    running = Program(guarded, {**_environment(), **env}, folder / "log")
    url = f"http://127.0.0.1:{port}{health}"

    def is_healthy() -> bool:
        assert running.process.poll() is None, running.output()
        with suppress(httpx.HTTPError):
            return httpx.get(url, timeout=2, trust_env=False).status_code == expects
        return False

    try:
        eventually(is_healthy, f"{command} is healthy", seconds=INSTALL_SECONDS, every=0.2)
        yield
    finally:
        # The whole group: the server is a child of uv, and that of the guard.
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.process.wait(10)


def _python(packages: tuple[str, ...], *arguments: str) -> list[str]:
    """Return the command that runs Python with these packages and none of the project's."""
    options = [option for package in packages for option in ("--with", package)]
    return [_uv(), "run", "--quiet", "--isolated", "--no-project", "--python", "3.11", *options, "python", *arguments]


def _environment() -> dict[str, str]:
    """Return an environment without the virtual environment of the tests, which uv would build upon."""
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}


def _uv() -> str:
    found = shutil.which("uv")
    assert found is not None, "the servers are installed with uv: install it"
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
