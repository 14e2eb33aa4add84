"""Keeps the leases of this worker's stages alive."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.execution.leases import HeldLeases


class Renew:
    """Renews every lease that a thread of this process holds, and cancels the model call of a lease that was lost.

    Args:
        leases: the leases of this process.
    """

    def __init__(self, leases: HeldLeases) -> None:
        self._leases = leases

    def run_once(self) -> tuple[UUID, ...]:
        """Renew all of them in one statement.

        Returns:
            The tokens of the leases that were lost or given up.

        Raises:
            DatabaseUnavailable: no lease was renewed, and none given up.
        """
        return self._leases.renew_once()
