"""The parts of README and docs/performance.md that are made of the figures: each stands between two comments.

<!-- figures: drain -->
…
<!-- end of figures -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.figures import OURS, Measure, medians, table
from benchmarks.measures import MEASURES
from benchmarks.million import Borne
from benchmarks.plans import Plans
from benchmarks.results import Measured, Results
from benchmarks.scale import scale_table
from tests.support.processes import ROOT

PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
BLOCK = re.compile(r"(?<=<!-- figures: )(\w+)( -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def blocks(results: Results, plans: Plans, borne: Borne) -> dict[str, str]:
    """Return the text of every block by its name.

    Args:
        results: what all measures returned.
        plans: what the statements cost.
        borne: what a long history costs.
    """
    tables = {name: table(what, results.measures[name].contenders) for name, what in MEASURES.items()}
    return tables | {
        "conditions": conditions(results, plans, borne),
        "summary": summary(results.measures),
        "plans": plans.table(),
        "growth": plans.growth.table(),
        "scale": scale_table(results, plans),
        "workspace": borne.pages_table(),
        "load": borne.load_table(),
    }


def rendered(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with the text of each of its blocks replaced.

    Raises:
        KeyError: there is no block of that name.
    """
    return BLOCK.sub(lambda found: f"{found[1]}{found[2]}{texts[found[1]]}\n", page)


def summary(measures: Mapping[str, Measured]) -> str:
    """Return a Markdown table of the product beside the limit of each measure."""
    lines = [f"| | {OURS} | limit | |", "| --- | --- | --- | --- |"]
    for name, what in MEASURES.items():
        lines += _summary_of(what, measures[name])
    return "\n".join(lines)


def _summary_of(what: Measure, measured: Measured) -> list[str]:
    ours = next(name for name in what.contenders if name.startswith(OURS))
    limit = next(iter(what.contenders))
    threads = ours.removeprefix(OURS).strip(", ")
    title = f"{what.title} ({threads})" if threads else what.title
    lines = []
    for figure in what.figures:
        found = medians(figure, measured.contenders)
        row = [title if figure.name == "median" else f"{title}: {figure.name}"]
        row.append(f"{found[ours][0]:,.{figure.digits}f}")
        row.append(f"{found[limit][0]:,.{figure.digits}f}")
        row.append(f"{found[ours][1]:.2f} {figure.comparison}" if figure.compared else "")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def conditions(results: Results, plans: Plans, borne: Borne) -> str:
    """Return a paragraph about the conditions under which the figures were measured."""
    given = results.conditions
    packages = ", ".join(f"{name} {version}" for name, version in given["packages"].items())
    settings = ", ".join(f"`{name}` {value}" for name, value in given["postgresql_settings"].items())
    counts = ", ".join(f"{name} {of.count:,}" for name, of in results.measures.items())
    return "\n".join(
        (
            f"- {given['date']}, {given['processor']}, {given['cores']} cores, {given['system']}; load before it"
            f" {given['load_before']}; 8 KB are on the disk after {given['fdatasync_ms']} ms (`fdatasync`).",
            f"- Python {given['python']}, PostgreSQL {given['postgresql']} ({settings}), Redis {given['redis']};"
            f" {packages}.",
            f"- {given['rounds']} rounds, with so many runs or requests in each: {counts}.",
            f"- The statements were explained on {plans.conditions['date']}, on {plans.conditions['processor']} with"
            f" PostgreSQL {plans.conditions['postgresql']}.",
            f"- The {borne.conditions['runs']:,} runs were there on {borne.conditions['date']}, on"
            f" {borne.conditions['processor']}; load before it {borne.conditions['load_before']}.",
        )
    )
