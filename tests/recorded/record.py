"""A recording: what was said once, kept as JSON beside the tests, and compared to the letter from then on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent


def check(name: str, said: dict[str, Any], *, anew: bool) -> None:
    """Compare what was said with its recording, or record it anew.

    Args:
        name: the recording's file, without its ending.
        said: JSON values, by what was asked.
        anew: whether ``--record`` was given: the diff is then for a person to judge.
    """
    path = FOLDER / f"{name}.json"
    if anew:
        path.write_text(json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        pytest.skip("recorded anew: look at the diff")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert said.keys() == recorded.keys()
    different = {asked: (recorded[asked], answer) for asked, answer in said.items() if answer != recorded[asked]}
    assert not different, "\n".join(f"{asked}\n  was {was}\n  is  {now}" for asked, (was, now) in different.items())
