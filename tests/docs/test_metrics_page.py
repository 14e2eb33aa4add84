"""docs/metrics.md lists every metric as it is declared."""

from __future__ import annotations

from tests.docs.blocks import check_block
from vm_webapp.metrics import DECLARED

KINDS = {"fact": "gauge, from the database"}


def test_the_page_lists_every_metric(record: bool) -> None:
    lines = ["| Metric | Kind | Labels | |", "| --- | --- | --- | --- |"]
    for name, declared in DECLARED.items():
        labels = ", ".join(f"`{label}`" for label in declared.labels)
        shown = f"{name}_total" if declared.kind == "counter" else name
        lines.append(f"| `{shown}` | {KINDS.get(declared.kind, declared.kind)} | {labels} | {declared.help} |")
    check_block("metrics.md", "metrics", "\n".join(lines), anew=record)
