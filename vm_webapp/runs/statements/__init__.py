"""The statements of the queue that are SQL text: each is one step that must be atomic, and Peewee cannot express it.

All others are built from the models, beside the function that runs them. Those here contain the rules of ``admission``,
which are SQL text, or an UPDATE inside a WITH. They are run by ``vm_webapp.db.pool``; values are psycopg2's named
parameters.
"""

from vm_webapp.runs.statements.attempts import RENEW_LEASES, find_limited_stage, finish_stages
from vm_webapp.runs.statements.claims import CLAIMED_UNDER, claim_due_stages, claim_one_stage, find_due_stages
from vm_webapp.runs.statements.creation import NEXT_START_TAG, create_run_within_quota, create_runs
from vm_webapp.runs.statements.queue_facts import MOST_COUNTED, read_queue_facts
from vm_webapp.runs.statements.snapshots import STORE_SNAPSHOTS
from vm_webapp.runs.statements.spending import FIND_SPENT_RUNS, FIND_SPENT_STAGE, RECORD_CALL

__all__ = [
    "CLAIMED_UNDER",
    "FIND_SPENT_RUNS",
    "FIND_SPENT_STAGE",
    "MOST_COUNTED",
    "NEXT_START_TAG",
    "RECORD_CALL",
    "RENEW_LEASES",
    "STORE_SNAPSHOTS",
    "claim_due_stages",
    "claim_one_stage",
    "create_run_within_quota",
    "create_runs",
    "find_due_stages",
    "find_limited_stage",
    "finish_stages",
    "read_queue_facts",
]
