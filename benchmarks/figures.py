"""What a measure is: its figures, its contenders, and how a figure is compared with the limit's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from benchmarks.drain import Servers

OURS = "VM Webapp"  # how the product's contenders begin

Values = Mapping[str, float]
Contender = Callable[[Servers, int], Values]
Rounds = Mapping[str, list[Values]]
"""What each contender measured, round after round. The first contender is the limit."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that each contender of a measure returns.

    Attributes:
        key: its name in the results.
        name: its name for people, with the unit.
        digits: after the decimal point.
        compared: as a ``share`` of what the limit achieves (1 is as good as the limit, less is worse), as how many
            ``times`` the limit's figure it is, or not at all.
        rising: whether more is better.
    """

    key: str
    name: str
    digits: int
    compared: Literal["share", "times", ""]
    rising: bool = False

    @property
    def comparison(self) -> str:
        """What the comparison is called, empty where there is none."""
        return {"share": "of the limit", "times": "times the limit's", "": ""}[self.compared]

    def compare(self, value: float, limit: float) -> float:
        """Return the share or the multiple of the limit's figure of the same round."""
        return limit / value if self.compared == "share" and not self.rising else value / limit


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured of several contenders, on the same servers and in the same rounds.

    Attributes:
        title: what a row of its table is.
        figures: the columns of its table.
        contenders: by name, the limit first.
        count: runs, or requests, of a round.
        server_settings: settings of PostgreSQL that it needs, by name.
    """

    title: str
    figures: tuple[Figure, ...]
    contenders: Mapping[str, Contender]
    count: int
    server_settings: Mapping[str, str] = field(default_factory=dict)


def rates(contenders: Mapping[str, Callable[[Servers, int], float]]) -> dict[str, Contender]:
    """Return contenders of which each returned nothing but what it does per second."""

    def named(contender: Callable[[Servers, int], float]) -> Contender:
        return lambda servers, count: {"per_second": contender(servers, count)}

    return {name: named(contender) for name, contender in contenders.items()}


def medians(figure: Figure, rounds: Rounds) -> dict[str, tuple[float, float]]:
    """Return for each contender the figure's median, and the median of each round's comparison with the limit."""
    limits = [values[figure.key] for values in next(iter(rounds.values()))]
    return {
        name: (
            median(values[figure.key] for values in measured),
            median(figure.compare(values[figure.key], limit) for values, limit in zip(measured, limits, strict=True)),
        )
        for name, measured in rounds.items()
    }


def table(measure: Measure, rounds: Rounds) -> str:
    """Return a Markdown table of the medians."""
    heads, columns = [measure.title], []
    for figure in measure.figures:
        found = medians(figure, rounds)
        heads.append(figure.name)
        columns.append({name: f"{value:,.{figure.digits}f}" for name, (value, _) in found.items()})
        if figure.compared:
            heads.append(figure.comparison)
            columns.append({name: f"{ratio:.2f}" for name, (_, ratio) in found.items()})
    lines = [heads, ["---"] * len(heads), *([name, *(column[name] for column in columns)] for name in rounds)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
