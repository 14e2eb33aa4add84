"""The audit trail: who did what to what, from where, with which result.

``entries`` adds a row in the transaction of each change, without any lock that two changes would share. ``sealing``
chains the rows afterwards, ``verification`` checks the chain, ``export`` writes it out, ``retention`` removes its
oldest part, and ``refusals`` adds the attempts that were refused.
"""

from vm_webapp.audit.entries import COLUMNS_OF_WHO, Who, record, record_all, values_of_who

__all__ = ["COLUMNS_OF_WHO", "Who", "record", "record_all", "values_of_who"]
