"""The tables, column by column: the core builds its queries from them.

The migrations create the tables; ``tests/db/test_models.py`` compares each column here with the migrated schema.
Columns that PostgreSQL fills in by itself (an identity, ``DEFAULT now()``) have no default here, so that one clock sets
all times.
"""

from vm_webapp.db.models.access import (
    ApiKey,
    AuditEntry,
    AuditHead,
    AuditPruned,
    AuditSeal,
    IdempotencyKey,
    RateWindow,
    RunsOfDay,
    Session,
)
from vm_webapp.db.models.base import (
    Administrative,
    JSONBField,
    LimitField,
    MoneyBudgetField,
    MoneyField,
    Table,
    TimeZoneField,
    TokenBudgetField,
    Xid8Field,
)
from vm_webapp.db.models.context import Brand, Project, Resource
from vm_webapp.db.models.fleet import (
    AutoscaleDecision,
    DutyLease,
    Installation,
    ProcessMetrics,
    Provider,
    Queue,
    QueueHistory,
    ScaleCall,
    WorkerHeartbeat,
)
from vm_webapp.db.models.runs import Artifact, Event, Run, SavedView, Snapshot, Stage, UnsummedCall, UsageDay

__all__ = [
    "Administrative",
    "ApiKey",
    "Artifact",
    "AuditEntry",
    "AuditHead",
    "AuditPruned",
    "AuditSeal",
    "AutoscaleDecision",
    "Brand",
    "DutyLease",
    "Event",
    "IdempotencyKey",
    "Installation",
    "JSONBField",
    "LimitField",
    "MoneyBudgetField",
    "MoneyField",
    "ProcessMetrics",
    "Project",
    "Provider",
    "Queue",
    "QueueHistory",
    "RateWindow",
    "Resource",
    "Run",
    "RunsOfDay",
    "SavedView",
    "ScaleCall",
    "Session",
    "Snapshot",
    "Stage",
    "Table",
    "TimeZoneField",
    "TokenBudgetField",
    "UnsummedCall",
    "UsageDay",
    "WorkerHeartbeat",
    "Xid8Field",
]
