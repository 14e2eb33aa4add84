"""Four eyes: a run may ask that somebody else than its creator decides its reviews.

People are compared by the ids of their keys. A name is free again when its key is revoked.
"""

from __future__ import annotations

from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import Row
from vm_webapp.errors import InvalidInput, VMError


class OwnRun(VMError):
    """A creator may not decide the reviews of a run that asks for four eyes."""

    code = "four_eyes"
    http_status = 403


def check_creator_is_known(creator: Actor, *, pointer: str) -> None:
    """Check that the creator of a run with four eyes can be told from others.

    Args:
        creator: who creates the run.
        pointer: JSON pointer of the value that asks for four eyes.

    Raises:
        InvalidInput: the caller is not known, because the API asks for no credentials.
    """
    if creator.id is None:
        raise InvalidInput(
            "four eyes need callers that are known, and this API asks for no credentials: it can do without, or be"
            " served in managed mode",
            pointer=pointer,
        )


def check_decided_by_another(run: Row, reviewer: Actor) -> None:
    """Check that a reviewer may decide.

    Args:
        run: the run's row, with ``four_eyes`` and ``creator_id``.
        reviewer: who decides.

    Raises:
        OwnRun: the run asks for four eyes, and the reviewer created it or is not known.
    """
    if run["four_eyes"] and reviewer.id in (None, run["creator_id"]):
        raise OwnRun("this run asks for four eyes: somebody with another key than its creator's has to decide")
