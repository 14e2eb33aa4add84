"""README and docs/performance.md show the figures of the files in benchmarks/results, and nobody typed them."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from benchmarks.digest import digest
from benchmarks.measures import MEASURES
from benchmarks.million import load_million
from benchmarks.pages import BLOCK, PAGES, blocks, rendered
from benchmarks.plans import load_plans
from benchmarks.results import FOLDER, MEASURED, MILLION, PLANS, load
from tests.support.processes import ROOT

PLOTS = ROOT / "docs" / "plots"
AGAIN = "run `uv run --group benchmarks python -m benchmarks refresh`"
MOST_BYTES = 60_000


def text_of(png: Path) -> dict[str, str]:
    """Return the texts that a PNG has beside its picture, by their keywords."""
    content, at, texts = png.read_bytes(), 8, {}
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind == b"tEXt":
            keyword, _, text = content[at + 8 : at + 8 + length].partition(b"\0")
            texts[keyword.decode()] = text.decode()
        at += 12 + length
    return texts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_saved_figures(page: Path) -> None:
    texts = blocks(load(MEASURED, MEASURES), load_plans(), load_million())
    assert rendered(page.read_text(), texts) == page.read_text(), AGAIN


def test_every_block_is_on_a_page() -> None:
    named = {found[1] for page in PAGES for found in BLOCK.finditer(page.read_text())}
    assert named == blocks(load(MEASURED, MEASURES), load_plans(), load_million()).keys()


@pytest.mark.parametrize("name", MEASURES)
def test_a_plot_shows_the_saved_figures_on_white_and_is_small(name: str) -> None:
    plot = PLOTS / f"{name}.png"
    assert text_of(plot)["Figures"] == digest(load(MEASURED, MEASURES).measures[name]), AGAIN
    assert plot.stat().st_size <= MOST_BYTES
    assert f"(plots/{name}.png)" in (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("file", [MEASURED, PLANS, MILLION], ids=lambda file: file.name)
def test_saved_figures_name_their_conditions_and_no_machine(file: Path) -> None:
    conditions = json.loads(file.read_text())["conditions"]
    assert {"date", "python", "postgresql", "redis", "packages", "processor", "cores"} <= conditions.keys()
    # The paths of pages are the only ones.
    assert not re.search(r'"/(?!ui/|")|\\\\|[Hh]ostname', file.read_text())


def test_the_page_of_plans_has_every_statement_of_the_table() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "plans.md").read_text(), re.MULTILINE)
    assert headings == list(load_plans().statements)


def test_only_these_files_are_kept() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        MEASURED.name,
        PLANS.name,
        MILLION.name,
        "autoscale.json",
        "autoscale_check.json",
    }
