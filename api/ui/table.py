"""Every page on one page."""

from __future__ import annotations

from api.http.problems import Handler
from api.ui.account import end_session, show_account, sign_out, sign_out_everywhere
from api.ui.changes import follow_changes
from api.ui.context.pages import CONTEXT_PAGES
from api.ui.documents import download_document, show_document
from api.ui.fork import fork_run, show_fork
from api.ui.home import show_home
from api.ui.new_run import create_run, show_new_run
from api.ui.operations.pages import OPERATIONS_PAGES
from api.ui.places import (
    ACCOUNT,
    CHANGES,
    DOCUMENT,
    HOME,
    MATCHING,
    NEW_RUN,
    PREVIEW,
    REVIEW,
    REVIEWS,
    RUN,
    RUNS,
    SELECTION,
    SIGN_IN,
    VIEWS,
)
from api.ui.retry import retry_run, show_retry
from api.ui.review import decide, show_review
from api.ui.reviews import list_reviews, preview_draft
from api.ui.run import show_run
from api.ui.run_control import cancel_run
from api.ui.run_event import show_event
from api.ui.run_list import delete_view, list_runs, save_view
from api.ui.run_matching import change_matching, show_matching
from api.ui.run_selection import change_selection, show_selection
from api.ui.sign_in import ask_for_key, sign_in
from api.ui.static import static_files

STATIC_FILES = static_files()
PAGES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", HOME, show_home),
    ("GET", CHANGES, follow_changes),
    ("GET", NEW_RUN, show_new_run),
    ("GET", RUNS, list_runs),
    ("POST", RUNS, create_run),
    ("GET", SELECTION, show_selection),
    ("POST", SELECTION, change_selection),
    ("GET", MATCHING, show_matching),
    ("POST", MATCHING, change_matching),
    ("POST", VIEWS, save_view),
    ("POST", f"{VIEWS}/{{id}}/delete", delete_view),
    ("GET", RUN, show_run),
    ("POST", f"{RUN}/cancel", cancel_run),
    ("GET", f"{RUN}/retry", show_retry),
    ("POST", f"{RUN}/retry", retry_run),
    ("GET", f"{RUN}/fork", show_fork),
    ("POST", f"{RUN}/fork", fork_run),
    ("GET", f"{RUN}/events/{{event_id}}", show_event),
    ("GET", DOCUMENT, show_document),
    ("GET", f"{DOCUMENT}/download", download_document),
    ("GET", REVIEWS, list_reviews),
    ("GET", REVIEW, show_review),
    ("POST", REVIEW, decide),
    ("POST", PREVIEW, preview_draft),
    *CONTEXT_PAGES,
    *OPERATIONS_PAGES,
    ("GET", SIGN_IN, ask_for_key),
    ("POST", SIGN_IN, sign_in),
    ("GET", ACCOUNT, show_account),
    ("POST", "/account/sessions/{id}/end", end_session),
    ("POST", "/sign-out", sign_out),
    ("POST", "/sign-out-everywhere", sign_out_everywhere),
    *(("GET", path, handler) for path, handler in STATIC_FILES.items()),
)
PUBLIC_PATHS = frozenset({SIGN_IN, *STATIC_FILES})
