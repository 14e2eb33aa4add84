"""The pages of operators and admins: method, path and handler of each."""

from __future__ import annotations

from api.http.problems import Handler
from api.ui.operations.audit import show_audit
from api.ui.operations.bulk_retry import bulk_retry, show_bulk_retry
from api.ui.operations.keys import end_key, make_key, show_keys
from api.ui.operations.overview import show_operations
from api.ui.operations.sessions import end_other_session, show_sessions
from api.ui.operations.switches import pause_provider, pause_queue, resume_provider, resume_queue
from api.ui.places import AUDIT, BULK_RETRY, KEYS, OPERATIONS, SESSIONS

OPERATIONS_PAGES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", OPERATIONS, show_operations),
    ("POST", f"{OPERATIONS}/queue/pause", pause_queue),
    ("POST", f"{OPERATIONS}/queue/resume", resume_queue),
    ("POST", f"{OPERATIONS}/providers/{{name}}/pause", pause_provider),
    ("POST", f"{OPERATIONS}/providers/{{name}}/resume", resume_provider),
    ("GET", BULK_RETRY, show_bulk_retry),
    ("POST", BULK_RETRY, bulk_retry),
    ("GET", AUDIT, show_audit),
    ("GET", KEYS, show_keys),
    ("POST", KEYS, make_key),
    ("POST", f"{KEYS}/{{id}}/revoke", end_key),
    ("GET", SESSIONS, show_sessions),
    ("POST", f"{SESSIONS}/{{id}}/end", end_other_session),
)
