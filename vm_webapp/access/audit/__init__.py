"""The audit trail: who did what to what, from where, with which result.

``entries`` adds a row in the transaction of each change, without any lock that two changes would share. ``sealing``
chains the rows afterwards, ``verification`` checks the chain, ``export`` writes it out, ``retention`` removes its
oldest part, and ``refusals`` adds the attempts that were refused.
"""

from vm_webapp.access.audit.entries import ACTOR_COLUMNS, record, record_all, values_of_actor

__all__ = ["ACTOR_COLUMNS", "record", "record_all", "values_of_actor"]
