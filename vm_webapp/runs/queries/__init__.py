"""Queries for runs, their events and their artifacts; they return plain data."""

from vm_webapp.runs.queries.approvals import Approval, count_approvals, list_approvals, list_approvals_for, read_drafts
from vm_webapp.runs.queries.artifacts import list_artifacts, newest_artifacts, read_artifact
from vm_webapp.runs.queries.changes import Mark, read_mark
from vm_webapp.runs.queries.events import find_event, list_events, newest_event, page_of_events, read_remarks
from vm_webapp.runs.queries.finding import Order
from vm_webapp.runs.queries.heads import run_heads
from vm_webapp.runs.queries.history import History, read_history
from vm_webapp.runs.queries.listing import RunFilter, count_by_status, list_runs, look_for_runs
from vm_webapp.runs.queries.matching import Matching, find_matching
from vm_webapp.runs.queries.origin import Origin, read_origin
from vm_webapp.runs.queries.reading import no_run
from vm_webapp.runs.queries.runs import get_run, read_run, read_runs
from vm_webapp.runs.queries.spending import Spending, read_spending, read_spending_of_project

__all__ = [
    "Approval",
    "History",
    "Mark",
    "Matching",
    "Order",
    "Origin",
    "RunFilter",
    "Spending",
    "count_approvals",
    "count_by_status",
    "find_event",
    "find_matching",
    "get_run",
    "list_approvals",
    "list_approvals_for",
    "list_artifacts",
    "list_events",
    "list_runs",
    "look_for_runs",
    "newest_artifacts",
    "newest_event",
    "no_run",
    "page_of_events",
    "read_artifact",
    "read_drafts",
    "read_history",
    "read_mark",
    "read_origin",
    "read_remarks",
    "read_run",
    "read_runs",
    "read_spending",
    "read_spending_of_project",
    "run_heads",
]
