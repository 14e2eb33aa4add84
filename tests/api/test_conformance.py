"""schemathesis: generated requests, right and wrong ones, and chains of them over the links, against a whole service.

Its command line sends them, so that its report can be read in the output of the test: ``pytest -s``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.folders import open_folder
from tests.support.forms import only_in_full
from tests.support.serving import Served, served
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
SEED = 7
CONFIGURATION = f"""\
seed = {SEED}
continue-on-failure = true
hooks = "tests.api.conformance_hooks"
headers = {{ Authorization = "Bearer {TOKEN}" }}
request-timeout = 40
workers = 1

[generation]
mode = "all"
database = "none"
# A NUL is refused everywhere, which the document says once and not in each schema.
allow-x00 = false

[cache]
enabled = false

[checks]
missing_required_header.expected-statuses = [428]
negative_data_rejection.expected-statuses = [400, 401, 404, 412, 415, 422, 428]
"""
# Requests to each operation, and chains over the links: those of the suite, and those of --full.
EXAMPLES, CHAINS, IN_FULL = 2, 10, 150


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A whole service for all phases."""
    # On all addresses, because an API on loopback alone asks for no credentials.
    with open_folder() as root, served(root / "vm", "--host", "0.0.0.0", VM_API_TOKEN=TOKEN) as running:
        eventually(lambda: running.ready() or None, "the service is ready")  # until then it says 503, as it should
        yield running


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("phases", "examples"),
    [
        ("stateful", CHAINS),  # first, because chains come further on a service that nobody has used
        ("examples,fuzzing", EXAMPLES),
        only_in_full("examples,coverage,fuzzing,stateful", IN_FULL),
    ],
)
def test_every_response_to_a_generated_request_is_as_described(
    service: Served, phases: str, examples: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(configuration), "run", str(REPOSITORY / "docs" / "openapi.json")),
        *("--url", f"http://127.0.0.1:{service.client.base_url.port}", "--checks", "all"),
        # Two checks of ours do the same, and know what a schema cannot.
        *("--exclude-checks", "positive_data_acceptance,ignored_auth"),
        *("--phases", phases, "--max-examples", str(examples), "--report-dir", str(tmp_path)),
    ]
    ran = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, check=False)
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
    (counted,) = re.findall(r"Test cases:\n +(.*)", ran.stdout)
    record_property("shown", f"schemathesis, {phases}: {counted}")
