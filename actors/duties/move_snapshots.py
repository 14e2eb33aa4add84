"""Moves what runs of the build before keep in documents of their own into the snapshots, in short batches."""

from __future__ import annotations

from vm_webapp.runs.snapshot_moves import BATCH, move_batch


class MoveSnapshots:
    """Moves documents where migration 0023 is applied. Every worker does: they find different runs."""

    def run_once(self) -> bool:
        """Move a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: nothing was moved.
        """
        return move_batch() == BATCH
