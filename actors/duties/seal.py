"""Chains the entries of the audit trail behind the changes that they record."""

from __future__ import annotations

from vm_webapp.access.audit.sealing import BATCH, is_sealing_due, seal_batch


class SealAudit:
    """Seals what is new in the audit trail. Every worker looks, and one at a time seals."""

    def run_once(self) -> bool:
        """Seal a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: nothing was sealed.
        """
        return is_sealing_due() and seal_batch() == BATCH
