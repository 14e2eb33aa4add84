"""Ends attempts of several threads by one statement, where they have their texts at the same time."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from vm_webapp.db.pool import Row
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant, Ending, Finished
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

MOST_TOGETHER = 32
# A statement that takes longer has met a database that hangs: those who wait for their turn then try by themselves.
PATIENCE_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Waiting:
    """An attempt whose thread waits: for what became of it, or to end those of others with its own.

    Attributes:
        ending: the attempt.
        leads: the attempts that its thread is to end, this one first; None where another thread ends it.
        done: what was done, None if it was not ended.
        ready: released when one of the two is known.
    """

    ending: Ending
    leads: list[_Waiting] | None = None
    done: Row | None = None
    ready: threading.Lock = field(default_factory=threading.Lock)


class FinishTogether:
    """Ends attempts; one thread at a time does so, for all that wait meanwhile.

    An attempt that comes alone waits for nobody. One that could not be ended with others, because another transaction
    has locked its run, it is not held any more or the statement has failed, is ended by itself.

    Args:
        claimant: the worker that claims the next stages.
    """

    def __init__(self, claimant: Claimant) -> None:
        self._claimant = claimant
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._led = False

    def finish(self, ending: Ending) -> Finished | None:
        """Do what ``lifecycle.finish_stage_if_held`` does, with others where some wait."""
        own = _Waiting(ending)
        with self._lock:
            if self._led:
                own.ready.acquire()
                self._waiting.append(own)
            else:
                self._led, own.leads = True, [own]
        if own.leads is None and not own.ready.acquire(timeout=PATIENCE_SECONDS) and not self._withdraw(own):
            # It is being ended. What it claims with that has a lease, which is renewed once the claim is known.
            own.ready.acquire()
        if own.leads is not None:
            self._lead(own.leads)
        if own.done is not None:
            return lifecycle.carry_on(ending, self._claimant, own.done)
        return lifecycle.finish_stage_if_held(
            ending.claim, ending.completion, self._claimant, next_token=ending.next_token, usage=ending.usage
        )

    def _lead(self, group: Sequence[_Waiting]) -> None:
        done: dict[UUID, Row] = {}
        try:
            done = lifecycle.finish_free_stages([each.ending for each in group], self._claimant)
        except Exception as error:  # each attempt meets its own error when it is ended by itself
            log.info("finish.alone", extra={"attempts": len(group), "error": shortened(error)})
        finally:
            self._pass_lead()
            for each in group:
                each.done = done.get(each.ending.claim.token)
                if each is not group[0]:
                    each.ready.release()

    def _pass_lead(self) -> None:
        with self._lock:
            self._led = bool(self._waiting)
            if not self._led:
                return
            first = self._waiting.popleft()
            first.leads, kind = [first], first.ending.kind
            while self._waiting and self._waiting[0].ending.kind == kind and len(first.leads) < MOST_TOGETHER:
                first.leads.append(self._waiting.popleft())
        first.ready.release()

    def _withdraw(self, own: _Waiting) -> bool:
        """Return whether nobody has begun to end the attempt, and now nobody will."""
        with self._lock:
            waits = own in self._waiting
            if waits:
                self._waiting.remove(own)
            return waits
