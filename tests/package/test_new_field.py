"""A new field of a brand is a migration, a line of the model and a line of the API's schema: all else follows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from vm_webapp.db.bundle import own_bundle

ROOT = Path(__file__).resolve().parents[2]
ID = "0899_brand_taglines"

# Everything that a brand goes through, in the changed copy: its fields come out at the other end, or the program fails.
PROGRAM = """
import sys
from pathlib import Path

from api.schemas.brands import BRANDS
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands
from vm_webapp.db import migrate, pool
from vm_webapp.workflows.render import StageContext
from vm_webapp.llm.worksheet import write_worksheet
from vm_webapp.runs.lifecycle import NewRun, create_run
from vm_webapp.workflows.loader import load_catalog, load_workflow
from vm_webapp.workflows.render import render_assignment

url, folder = sys.argv[1:]
migrate.apply_pending(url)
pool.open_pool(url, max_connections=2, application_name="test")
given = {"name": "Crumb & Co", "tagline": "Bread before seven", "markets": ["Porto", "Braga"]}
body = BRANDS.new.model_validate(given).model_dump()
brand = brands.create(body, actor=Actor("test"))
change = BRANDS.change.model_validate({"voice": "warm"}).model_dump(exclude_unset=True)
brand = brands.change(brand.id, change, version=1, actor=Actor("test"))
shown = BRANDS.out.model_validate(brand).model_dump()
assert given.items() <= shown.items(), shown

workflow = load_catalog().workflows["content_calendar"]
run = create_run(NewRun(workflow, "a request", brand_id=brand.id), actor=Actor("test"))
with pool.transaction():
    (kept,) = pool.rows(
        "SELECT content FROM snapshots JOIN runs ON brand_digest = digest WHERE runs.id = %(id)s", id=run.id
    )
assert given.items() <= kept["content"].items(), kept

assignment = render_assignment(workflow, workflow.stages[0], StageContext("a request", kept["content"]))
assert "\\nTagline: Bread before seven\\n" in assignment.user, assignment.user
assert "\\nMarkets:\\n- Porto\\n- Braga\\n" in assignment.user, assignment.user
assert "| Brand: tagline | Bread before seven |" in write_worksheet(assignment)

load_workflow(Path(folder))  # its template names the field, with a brand that has none and with one that has
"""


def test_a_new_field_of_a_brand_takes_three_files(database_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in ("vm_webapp", "api", "actors", "migrations"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    newest = own_bundle().ids[-1]
    (copy / f"migrations/{ID}.sql").write_text(
        f"-- Taglines.\n-- depends: {newest}\n-- oldest build: {newest}\n"
        "ALTER TABLE brands ADD COLUMN tagline text NOT NULL DEFAULT '',"
        " ADD COLUMN markets jsonb NOT NULL DEFAULT '[]';\n"
    )
    (copy / f"migrations/{ID}.rollback.sql").write_text(
        "ALTER TABLE brands DROP COLUMN tagline, DROP COLUMN markets;\n"
    )
    add_after(
        copy / "vm_webapp/db/models/context.py",
        "    audience = TextField()\n",
        "tagline = TextField()",
        "markets = JSONBField()",
    )
    add_after(copy / "api/schemas/brands.py", '    audience: Prose = ""\n', 'tagline: Prose = ""', "markets: Lines")
    workflow = tmp_path / "press"
    workflow.mkdir()
    (workflow / "workflow.yaml").write_text("title: T\ndescription: D\nstages:\n  - key: one\n    title: One\n")
    (workflow / "one.md").write_text("{% if brand %}{{ brand.tagline }}{{ brand.markets | join }}{% endif %}\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, database_url, str(workflow)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def add_after(file: Path, line: str, *further: str) -> None:
    text = file.read_text()
    assert text.count(line) == 1
    file.write_text(text.replace(line, line + "".join(f"    {each}\n" for each in further)))
