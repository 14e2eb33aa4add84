"""One fake model server for all tests of the providers, reset for each test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fakes.model_server import ModelServer
from tests.llm.providers import a_provider
from vm_webapp.llm.kimi import KimiProvider


@pytest.fixture(scope="session")
def running_server() -> Iterator[ModelServer]:
    """The server itself: starting one takes longer than most of the tests."""
    with ModelServer() as running:
        yield running


@pytest.fixture
def server(running_server: ModelServer) -> ModelServer:
    """A server that responds normally until the test queues something else."""
    running_server.reset()
    return running_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kimi(running_server: ModelServer) -> AsyncIterator[KimiProvider]:
    """One client for a whole file, on its loop: making one takes 30 ms (its TLS context)."""
    provider = a_provider(running_server.base_url)
    yield provider
    await provider.aclose()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate for 127.0.0.1, which the clients of this test trust."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(made, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
