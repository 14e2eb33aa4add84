"""What each part of the product imports, and what it must not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODEL_CLIENTS = ("httpx", "vm_webapp.llm.kimi", "vm_webapp.execution.stage_runner")


@pytest.mark.parametrize(
    ("imported", "not_imported"),
    [
        ("api.app", ("actors", "dramatiq")),
        ("actors", ("api", "aiohttp", *MODEL_CLIENTS)),
        ("vm_webapp.cli", ("api", "actors", "aiohttp", "dramatiq", "peewee", "pydantic", *MODEL_CLIENTS)),
    ],
)
def test_a_part_does_not_import_what_it_does_not_need(imported: str, not_imported: tuple[str, ...]) -> None:
    program = f"import sys, {imported}; print(*(name for name in {not_imported!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_stock_command_finds_broker_and_actor_and_connects_to_nothing() -> None:
    program = (
        "import dramatiq, actors; from dramatiq.cli import import_broker;"
        " assert import_broker('actors')[1] is dramatiq.get_broker() is actors.broker;"
        " print(*sorted(actors.broker.actors), *actors.broker.get_declared_queues(), actors.broker.url)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["execute_stage", "stages", "None"]
