"""Finds the locks of other sessions that hold this program up.

A lock on a table is found by its mode, whether or not anybody waits for it yet. PostgreSQL does not list the locks of
rows: such a lock, or an advisory lock, is found by a session of ours that waits for it, and at the head of the queue,
where a claim skips it, by the transaction that the row names.
"""

from vm_webapp.ops.locks.found import WHERE_NONE_IS_HELD
from vm_webapp.ops.locks.session import Holder, Lock
from vm_webapp.ops.locks.watch import LockWatch, name_locks

__all__ = ["WHERE_NONE_IS_HELD", "Holder", "Lock", "LockWatch", "name_locks"]
