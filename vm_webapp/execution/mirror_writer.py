"""Writes the copies of artifacts behind the stages that made them, which need not wait for a disk."""

from __future__ import annotations

import logging
import time
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from vm_webapp.execution.mirror import ArtifactCopy, ArtifactMirror

log = logging.getLogger(__name__)

# What comes within this time is written together: each time that the thread wakes, it interrupts another.
REST_SECONDS = 0.02
MOST_WAITING = 64
CLOSE_SECONDS = 5.0


class MirrorWriter:
    """A queue of copies, and the thread that writes them, which starts with the first.

    A worker that is killed loses the copies of the last moment. The originals are in the database.

    Args:
        mirror: where they are written.
    """

    def __init__(self, mirror: ArtifactMirror) -> None:
        self._mirror = mirror
        self._waiting: SimpleQueue[ArtifactCopy | None] = SimpleQueue()
        self._lock = Lock()
        self._thread: Thread | None = None

    def put(self, copy: ArtifactCopy) -> None:
        """Have a copy written. Where too many wait already, the calling thread writes it."""
        if self._waiting.qsize() >= MOST_WAITING or not self._has_thread():
            self._write([copy])
        else:
            self._waiting.put(copy)

    def close(self) -> None:
        """Write what waits, and end the thread; a disk that hangs is not waited for longer than some seconds."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(CLOSE_SECONDS)

    def _has_thread(self) -> bool:
        with self._lock:
            if self._thread is None:
                thread = Thread(target=self._run, name="mirror", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system refuses more threads
                    return False
                self._thread = thread
        return True

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            time.sleep(REST_SECONDS)
            copies, ended = self._with_others(first)
            self._write(copies)
            if ended:
                return

    def _with_others(self, first: ArtifactCopy) -> tuple[list[ArtifactCopy], bool]:
        """Return what waits, and whether the queue is closed behind it."""
        copies = [first]
        try:
            while (copy := self._waiting.get_nowait()) is not None:
                copies.append(copy)
        except Empty:
            return copies, False
        return copies, True

    def _write(self, copies: list[ArtifactCopy]) -> None:
        try:
            # Those of a run are next to each other then, and a version that is written twice stays in its order.
            self._mirror.write(sorted(copies, key=lambda copy: copy.run_id.int))
        except Exception:
            log.exception("mirror.crashed")
