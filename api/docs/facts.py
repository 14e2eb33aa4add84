"""What the pages say about states and about what may be sent; tests compare it with the code."""

from __future__ import annotations

from collections.abc import Mapping

from vm_webapp.runs.records import RunStatus, StageStatus

RUN_MEANINGS: Mapping[RunStatus, str] = {
    "queued": "It waits for a worker.",
    "running": "A worker works on it, or one of its stages waits for another try.",
    "waiting_approval": "A draft waits for a person.",
    "completed": "Every stage has its artifact.",
    "failed": "A stage has failed for good; error says why.",
    "canceled": "Somebody has canceled it.",
}
STAGE_MEANINGS: Mapping[StageStatus, str] = {
    "pending": "The stages before it are not completed.",
    "queued": "It waits for a worker, or for the time of its next try (available_at).",
    "running": "A worker works on it.",
    "waiting_approval": "Its draft waits for a person.",
    "completed": "It has its artifact.",
    "failed": "It has failed for good; error says why.",
    "canceled": "Its run was canceled before it was completed.",
}
WAITING_KINDS: Mapping[str, str] = {
    "queue": "its turn: other stages are before it",
    "retry": "the time of the next try, after a failure",
    "approval": "a person who decides about a draft",
    "no_worker": "a worker: none is alive, or all are starting or shutting down",
    "queue_paused": "an operator, who has paused the queue",
    "provider_paused": "the model's provider, which is paused",
    "model_limit": "another call to end: as many are in flight as may be",
    "brand_budget": "the next day of the brand, whose budget of this day is spent",
    "run_budget": "nothing: its own budget is spent, and it fails in a moment",
    "brand_limit": "another stage of the same brand to end: as many run as the brand may have",
}
BODIES = (
    ("JSON in UTF-8, with Content-Type: application/json", "It is read. A `charset` is ignored: JSON has none."),
    ("JSON with a byte-order mark, in UTF-16 or UTF-32", "400 `malformed_json`, which says so"),
    ("NaN, Infinity, a trailing comma, a comment, two documents", "400 `malformed_json`"),
    ("More than 32 levels of lists and objects", "400 `malformed_json`"),
    ("A field that is given twice, or that is unknown", "422 `invalid_input`, with a pointer to it"),
    ("Text with a NUL, or with half a surrogate pair", "422 `invalid_input`, with a pointer to it"),
    ("More than 1 MiB, sent or unpacked", "413 `body_too_large`, before more of it is read or unpacked"),
    ("Content-Encoding: gzip or deflate", "It is unpacked, once. A broken one gets 400 `unreadable_body`"),
    ("Any other Content-Encoding", "415 `unsupported_media_type`"),
    ("Another Content-Type, or none", "415 `unsupported_media_type`"),
    ("Transfer-Encoding: chunked", "It is read like any other; a broken chunk gets 400"),
    ("Nothing, where no field is required", "It is read as `{}`"),
    ("Nothing, where a field is required", "415 without a Content-Type, or else 400 `empty_body`"),
    ("A body that does not arrive within 30 seconds", "408 `body_timeout`"),
    ("Expect: 100-continue", "100, then the response"),
    ("Any other Expect", "417 `expectation_failed`"),
)
ADDRESSES = (
    ("A doubled slash, a slash at the end, other letter case, . or ..", "404 `not_found`: no redirect"),
    ("Percent-encoded letters, such as %72uns", "They are those letters"),
    ("A percent-encoded slash", "It is part of a value, and separates nothing"),
    ("An unknown parameter, or one that is given twice", "422 `invalid_parameter`"),
    ("HEAD, where there is a GET", "The headers of the GET, without its body; a stream ends at once"),
    ("OPTIONS", "204 with `Allow`; 404 where there is nothing"),
    ("Any other method", "405 `method_not_allowed` with `Allow`"),
)
