"""What the document says in sentences: the rules that hold for every operation, and what each group of them is for."""

from __future__ import annotations

ABOUT = """\
Runs of marketing workflows: a run takes a request through the stages of a workflow, in each of which a language model
writes an artifact; people review drafts; everything that happens is an event of the run's timeline.

`/api/v2/docs` explains how to use this API, from a key to a finished run.

For every operation:

- Bodies are JSON by RFC 8259, in UTF-8 without a byte-order mark, at most 1 MiB and 32 levels deep. Unknown fields,
  fields that are given twice, and text with a NUL or half a surrogate pair are refused.
- Errors are `application/problem+json` (RFC 9457). All wrong values are reported at once.
- Times are RFC 3339 in UTC. Ids are UUIDs.
- Each `GET` can be asked as `HEAD`, which has the same headers and no body. `OPTIONS` gets 204 with `Allow`; any other
  method gets 405 with `Allow`.
- A request that is not well-formed HTTP/1.1 gets 400, 408 or 505, as a problem, before any operation is found.
- Paths are matched letter by letter, after percent-decoding of the values in them: `//` and a slash at the end are
  other addresses, which have nothing (404).
- Fields, event types and problem types may be added to responses. Ignore those that you do not know.
"""

TAGS = {
    "health": "Whether the service responds, and whether work can progress.",
    "workflows": "What can be run.",
    "runs": "Runs: create, follow, control, and read what they wrote.",
    "reviews": "Drafts that wait for a person, and decisions about them.",
    "brands": "Brands, for which runs write.",
    "projects": "Projects, for which runs write.",
    "queue": "The queue and its workers, for operators.",
    "usage": "What model calls have used and cost.",
    "sessions": "Browsers in which people are signed in.",
    "audit": "Who did what, for admins.",
    "metrics": "What all processes have counted, for Prometheus.",
    "docs": "This document and its explanations.",
}
