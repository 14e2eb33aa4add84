"""The file that keeps every figure of one run of the benchmarks, and the conditions under which it was measured."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Rounds
from tests.support.processes import ROOT

FOLDER = ROOT / "benchmarks" / "results"
MEASURED = FOLDER / "figures.json"
PLANS = FOLDER / "plans.json"
MILLION = FOLDER / "million.json"


class UnusableResults(Exception):
    """A file of results cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one measure returned.

    Attributes:
        count: runs, or requests, of a round.
        contenders: what each measured, round after round.
    """

    count: int
    contenders: Rounds


@dataclass(frozen=True, slots=True)
class Results:
    """What one run of the benchmarks returned."""

    conditions: dict[str, Any]
    measures: dict[str, Measured] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file anew."""
        measures = {name: {"count": of.count, "contenders": of.contenders} for name, of in self.measures.items()}
        path.write_text(json.dumps({"conditions": self.conditions, "measures": measures}, indent=1) + "\n")


def load(path: Path, needed: Collection[str] = ()) -> Results:
    """Read a file that ``save`` wrote.

    Args:
        path: the file.
        needed: measures that it must contain.

    Raises:
        UnusableResults: there is no such file, it is another one, or a measure is missing.
    """
    again = f"measure anew: uv run python -m benchmarks --save {path.name}"
    try:
        found = json.loads(path.read_text())
        measures = {name: Measured(of["count"], of["contenders"]) for name, of in found["measures"].items()}
        results = Results(found["conditions"], measures)
    except OSError as error:
        raise UnusableResults(f"{path.name} cannot be read ({error.strerror}): {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableResults(f"{path.name} is not a file that the benchmarks saved: {again}") from error
    if missing := sorted(set(needed) - measures.keys()):
        raise UnusableResults(f"{path.name} has no figures of {', '.join(missing)}: {again}")
    return results
