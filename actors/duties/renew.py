"""Keeps the leases of this worker's stages alive."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.execution.leases import HeldLeases


class Renew:
    """Renews every lease that a live thread holds; a call whose lease is lost is ended.

    Args:
        leases: those of this process.
    """

    def __init__(self, leases: HeldLeases) -> None:
        self._leases = leases

    def run_once(self) -> tuple[UUID, ...]:
        """Renew them in one statement.

        Returns:
            The tokens of the leases that were given up.

        Raises:
            DatabaseUnavailable: nothing was renewed, nothing given up.
        """
        return self._leases.renew_once()
