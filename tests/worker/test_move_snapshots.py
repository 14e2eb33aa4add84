"""A worker moves what runs of the build before keep in documents of their own."""

from __future__ import annotations

from tests.support.runs import create, lost_hints, read
from tests.support.snapshots import keep_in_a_document, kept_by
from tests.support.waiting import eventually
from tests.worker.conftest import StartWorker


def test_a_worker_moves_documents_when_it_starts(start_worker: StartWorker) -> None:
    with lost_hints():
        run = create("smoke").run
    document = keep_in_a_document(run.id)
    with start_worker():
        eventually(lambda: read("SELECT 1 AS found FROM runs WHERE snapshot IS NULL"), "it is moved")
    assert kept_by(run.id) == document
