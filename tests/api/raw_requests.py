"""Parts of requests as bytes, with a secret that no log may show, and what the log says of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.raw_http import HEAD

SECRET = "s3cret-t0ken"
BEARER = HEAD + f"Authorization: Bearer {SECRET}".encode()
POST = b"POST /api/v2/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def done(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the lines about requests."""
    return [vars(record) for record in caplog.records if record.msg == "request.done"]
