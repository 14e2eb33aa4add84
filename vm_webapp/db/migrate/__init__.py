"""Compares the migrations of this build with those of the database, and applies or rolls back the difference.

yoyo runs the migrations and keeps its own tables. This package adds an advisory lock on a direct session, because
yoyo's own lock is a row that outlives a killed process, and an archive of every applied migration's files, because yoyo
can only roll back what it finds in a folder. See `docs/migrations.md`.
"""

from vm_webapp.db.migrate.archive import archive_applied
from vm_webapp.db.migrate.down import DownPlan, export_applied, plan_down, roll_back
from vm_webapp.db.migrate.failures import MigrationFailed
from vm_webapp.db.migrate.invalid_indexes import InvalidIndex, read_invalid_indexes
from vm_webapp.db.migrate.live_apis import warning_about_apis
from vm_webapp.db.migrate.live_workers import Postponed
from vm_webapp.db.migrate.locks import Patience, unlock
from vm_webapp.db.migrate.status import SchemaStatus, compare, read_applied, read_status
from vm_webapp.db.migrate.up import apply_pending, pending_files

__all__ = [
    "DownPlan",
    "InvalidIndex",
    "MigrationFailed",
    "Patience",
    "Postponed",
    "SchemaStatus",
    "apply_pending",
    "archive_applied",
    "compare",
    "export_applied",
    "pending_files",
    "plan_down",
    "read_applied",
    "read_invalid_indexes",
    "read_status",
    "roll_back",
    "unlock",
    "warning_about_apis",
]
