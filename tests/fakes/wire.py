"""Kimi's responses as bytes: chat completion chunks in server-sent events, or one JSON object."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from tests.fakes.behaviours import Behaviour

PIECE_CHARACTERS = 40
DONE = b"data: [DONE]\n\n"
Body = Mapping[str, Any]


def text_of(body: Body, behaviour: Behaviour) -> str:
    """Return the text of the completion."""
    return write_completion(body) if behaviour.text is None else behaviour.text


def write_completion(body: Body) -> str:
    """Return a Markdown document about the prompt, with the outline that it asks for."""
    prompt = str(body["messages"][-1]["content"])
    asked = re.search(r"<request>\s*(.+?)\s*</request>", prompt, re.DOTALL)
    subject = " ".join((asked.group(1) if asked else prompt).split())[:200]
    headings = re.findall(r"^\d+\. ([^\n—]+?)(?: —.*)?$", prompt, re.MULTILINE) or ["Findings"]
    parts = (f"## {heading}\n\nWhat matters here about “{subject}”.\n" for heading in headings)
    return f"# Document\n\nAbout: {subject}\n\n" + "\n".join(parts)


def beginning(body: Body, behaviour: Behaviour) -> bytes:
    """Return the chunks before the text: the role, the reasoning, and what the behaviour inserts."""
    reasoning = _delta(body, behaviour, {"reasoning_content": behaviour.reasoning}) if behaviour.reasoning else b""
    return _delta(body, behaviour, {"role": "assistant", "content": ""}) + reasoning + behaviour.insert


def pieces(body: Body, behaviour: Behaviour, text: str) -> list[bytes]:
    """Return the chunks of the text."""
    parts = (text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS))
    return [_delta(body, behaviour, {"content": part}) for part in parts]


def ending(body: Body, behaviour: Behaviour, text: str) -> bytes:
    """Return what follows the text: the chunk with ``finish_reason``, the token counts, and ``[DONE]``."""
    usage = _usage(body, behaviour, text)
    last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": behaviour.finish_reason}
    if behaviour.usage_in_choice:
        return _frame({**_envelope(body, behaviour), "choices": [{**last, "usage": usage}]}) + DONE
    wanted = (body.get("stream_options") or {}).get("include_usage")
    counts = _frame({**_envelope(body, behaviour), "choices": [], "usage": usage}) if wanted else b""
    return _frame({**_envelope(body, behaviour), "choices": [last]}) + counts + DONE


def _delta(body: Body, behaviour: Behaviour, delta: Mapping[str, Any]) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return _frame({**_envelope(body, behaviour), "choices": [choice]})


def _frame(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _envelope(body: Body, behaviour: Behaviour) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": behaviour.model or body.get("model"),
    }


def whole(body: Body, behaviour: Behaviour) -> dict[str, Any]:
    """Return the response body for a request without ``stream``, or for a behaviour that does not stream."""
    text = text_of(body, behaviour)
    message = {"role": "assistant", "reasoning_content": behaviour.reasoning, "content": text}
    choice = {"index": 0, "message": message, "finish_reason": behaviour.finish_reason}
    usage = _usage(body, behaviour, text)
    return {**_envelope(body, behaviour), "object": "chat.completion", "choices": [choice], "usage": usage}


def _usage(body: Body, behaviour: Behaviour, text: str) -> dict[str, int]:
    if behaviour.usage is not None:
        return dict(behaviour.usage)
    read = sum(len(str(message["content"])) for message in body["messages"]) // 4 + 1
    written = (len(behaviour.reasoning) + len(text)) // 4 + 1
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
