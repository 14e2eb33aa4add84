"""A run as a zip archive: every version of every artifact, the timeline and an index, written piece by piece."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from io import RawIOBase
from typing import Any
from uuid import UUID

from vm_webapp.runs import queries
from vm_webapp.runs.records import ArtifactRecord, EventRecord, RunRecord

EVENTS_AT_A_TIME = 500


def write_archive(run_id: UUID) -> Iterator[bytes]:
    """Yield the bytes of the archive; no more than one artifact and one page of events is in memory.

    Args:
        run_id: the run.

    Raises:
        NotFound: there is no such run; raised before the first byte.
        DatabaseUnavailable: the archive ends in the middle; a zip's directory is at its end, so it cannot be unpacked.
    """
    # Here and not in the generator, whose first statement would run only after the response has begun.
    run = queries.get_run(run_id)
    artifacts = queries.list_artifacts(run_id)
    return _pieces(run, artifacts)


def _pieces(run: RunRecord, artifacts: list[ArtifactRecord]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry("README.md", run.created_at), _index(run, artifacts))
        yield sink.take()
        positions = {stage.key: stage.position for stage in run.stages}
        for artifact in artifacts:
            # Each artifact is read in a transaction of its own: between two pieces the client's network decides how
            # long it takes, and no connection may be held for that.
            content = queries.read_artifact(run.id, artifact.stage, version=artifact.version).content
            archive.writestr(_entry(_path(artifact, positions), artifact.created_at), content)
            yield sink.take()
        with archive.open(_entry("timeline.json", run.created_at), "w") as timeline:
            for number, event in enumerate(_events(run.id)):
                timeline.write(b",\n" if number else b"[\n")
                timeline.write(json.dumps(_plain(asdict(event)), ensure_ascii=False).encode())
                if sink.waiting > 65_536:
                    yield sink.take()
            timeline.write(b"\n]\n")
    yield sink.take()


def _events(run_id: UUID) -> Iterator[EventRecord]:
    after = 0
    while page := queries.list_events(run_id, after=after, limit=EVENTS_AT_A_TIME):
        yield from page
        after = page[-1].id


def _entry(name: str, at: datetime) -> zipfile.ZipInfo:
    # A ZipInfo does not inherit the archive's compression, and its own default is none. Without a mode, zipfile writes
    # 0600. The time is the record's and not now, so that the same run always gives the same entries.
    entry = zipfile.ZipInfo(name, at.timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _path(artifact: ArtifactRecord, positions: dict[str, int]) -> str:
    suffix = artifact.name.rpartition(".")[2]
    return f"{positions[artifact.stage]:02}-{artifact.stage}/v{artifact.version}.{suffix}"


def _index(run: RunRecord, artifacts: list[ArtifactRecord]) -> str:
    positions = {stage.key: stage.position for stage in run.stages}
    lines = [
        f"# {run.workflow}",
        "",
        *(f"> {line}".rstrip() for line in run.request.splitlines()),
        "",
        f"Run `{run.id}`, {run.status}, created {run.created_at:%Y-%m-%d %H:%M} UTC.",
        "",
        "| Stage | Status | Artifacts |",
        "| --- | --- | --- |",
    ]
    for stage in run.stages:
        paths = [_path(artifact, positions) for artifact in artifacts if artifact.stage == stage.key]
        links = ", ".join(f"[{path.rpartition('/')[2]}]({path})" for path in paths) or "none"
        lines.append(f"| {stage.title} | {stage.status.replace('_', ' ')} | {links} |")
    return "\n".join([*lines, "", "What happened, step by step, is in [timeline.json](timeline.json).", ""])


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"run_id": str(event["run_id"]), "created_at": event["created_at"].isoformat()}


class _Sink(RawIOBase):
    """The file that the zip is written to: it cannot be rewound, and is emptied between entries."""

    # RawIOBase cannot seek, which zipfile detects by an exception: it then writes sizes and checksums after each entry.

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)  # a copy, since a caller may reuse its buffer
        self._pieces.append(piece)
        self.waiting += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._pieces, self.waiting = b"".join(self._pieces), [], 0
        return taken
