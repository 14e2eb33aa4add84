"""A model server that streams 2 KB in tokens of four characters at once, and prints its base URL.

uv run python -m benchmarks.streaming_model
"""

from __future__ import annotations

import threading

from benchmarks.instant_model import TEXT
from tests.fakes import wire
from tests.fakes.behaviours import completion
from tests.fakes.model_server import ModelServer


def main() -> None:
    """Serve until SIGTERM."""
    setattr(wire, "PIECE_CHARACTERS", 4)  # noqa: B010 - mypy refuses an assignment
    answer = completion(TEXT)
    with ModelServer(lambda _: answer) as server:
        print(server.base_url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
