"""Separates a model's text from its reasoning and from its template's tokens, where a server sends all as content."""

from __future__ import annotations

import re
from typing import NamedTuple


class Span(NamedTuple):
    """What begins and what ends a stretch of content that is no text."""

    opening: re.Pattern[str]
    closing: re.Pattern[str]


def _between(opening: str, closing: str) -> Span:
    return Span(re.compile(rf"\s*{opening}", re.IGNORECASE), re.compile(closing, re.IGNORECASE))


TAGS = ("think", "thinking", "thought", "reasoning", "seed:think")
# gpt-oss writes each message as <|start|>assistant<|channel|>NAME<|message|>TEXT<|end|>; only ``final`` is for readers.
HARMONY = r"(?:<\|start\|>assistant)?<\|channel\|>{}[^<]{{0,80}}<\|message\|>"
SPANS = (
    *(_between(f"<{tag}>", f"</{tag}>") for tag in TAGS),
    _between(r"\[think\]", r"\[/think\]"),  # Magistral
    _between("◁think▷", "◁/think▷"),  # Kimi
    _between(r"<\|start_thinking\|>", r"<\|end_thinking\|>"),  # Command
    _between(r"<\|channel>thought\s", r"<channel\|>"),  # Gemma
    _between(HARMONY.format("(?:analysis|commentary)"), r"<\|end\|>|(?=<\|start\|>|<\|channel\|>)"),
    _between(HARMONY.format("final"), ""),  # no reasoning, but the head of the text
)
# For a stream that is still growing: how each opening begins.
OPENINGS = (*(f"<{tag}>" for tag in TAGS), "[think]", "◁think▷", "<|start_thinking|>", "<|channel>thought\n")
LONGEST_HARMONY_OPENING = 120
LONGEST_CLOSING = 20

CLOSING = re.compile(rf"</(?:{'|'.join(TAGS)})>|\[/think\]|◁/think▷", re.IGNORECASE)
# A closing tag alone is reasoning's end only at the end of its line and outside of code: a document may mention it.
LONE_CLOSING = re.compile(rf"^[^\n`]*(?:{CLOSING.pattern})[ \t]*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)
# Some servers drop gpt-oss's special tokens and leave the words between them.
HARMONY_WITHOUT_TOKENS = re.compile(r"\s*analysis(?=[A-Z]).*?assistantfinal", re.DOTALL)
# The end of a turn in the chat templates of ChatML, Mistral, Llama, Gemma, gpt-oss, Phi, Command and DeepSeek.
TURN_END = (
    r"(?:</s>|<end_of_turn>|<\|(?:im_end|endoftext|eot_id|return|end|END_OF_TURN_TOKEN)\|>|<｜end▁of▁sentence｜>)"
)
TURN_ENDS = re.compile(rf"(?:\s*{TURN_END})+\s*\Z")


def without_reasoning(text: str) -> str:
    """Return a complete text without the reasoning at its beginning and the tokens of the chat template at its end.

    Reasoning stands between ``<think>`` and ``</think>`` or the like, or before a closing tag alone: chat templates of
    several reasoning models put the opening tag into the prompt, so that the model writes only the other one. Reasoning
    that was never closed is all there is.
    """
    text = _without_turn_ends(text)
    if dropped := HARMONY_WITHOUT_TOKENS.match(text):
        text = text[dropped.end() :]
    while found := _opening(text):
        end, closing = found
        closed = closing.search(text, end)
        if closed is None:
            return ""
        text = text[closed.end() :].lstrip()
    first = CLOSING.search(text)
    lone = LONE_CLOSING.search(text)
    if first and lone and lone.start() <= first.start() < lone.end() and not _in_code(text[: first.start()]):
        return text[first.end() :].lstrip()
    return text


def _opening(text: str) -> tuple[int, re.Pattern[str]] | None:
    for span in SPANS:
        if opening := span.opening.match(text):
            return opening.end(), span.closing
    return None


def _without_turn_ends(text: str) -> str:
    # The search is quadratic in runs of white space, so only the end is looked at.
    head, tail = text[:-200], text[-200:]
    found = TURN_ENDS.search(tail)
    if found is None:
        return text
    # The line end before the token is the text's.
    ends_line = "\n" if tail[found.start() :].startswith("\n") else ""
    return head + tail[: found.start()] + ends_line


def _in_code(text: str) -> bool:
    return len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 1


class ReasoningFilter:
    """Withholds reasoning at the beginning of a stream from those who watch the text while it is written.

    A closing tag alone comes too late for that; ``without_reasoning`` removes it from the complete text.
    """

    def __init__(self) -> None:
        self._held = ""
        self._closing: re.Pattern[str] | None = None
        self._begun = False
        self._removed = False

    def add(self, piece: str) -> str:
        """Add a piece of content, and return the text in it that is no reasoning. Tags may be cut across pieces."""
        if self._begun:
            return piece
        self._held += piece
        while True:
            if self._closing is not None:
                closed = self._closing.search(self._held)
                if closed is None:
                    self._held = self._held[-LONGEST_CLOSING:]
                    return ""
                self._held, self._closing, self._removed = self._held[closed.end() :], None, True
            found = _opening(self._held)
            if found is None:
                break
            end, self._closing = found
            self._held = self._held[end:]
        if self._may_become_an_opening():
            return ""
        held, self._held, self._begun = self._held, "", True
        return held.lstrip() if self._removed else held

    def _may_become_an_opening(self) -> bool:
        start = self._held.lstrip().lower()
        if start.startswith("<|") and len(start) < LONGEST_HARMONY_OPENING:
            return True
        return any(opening.startswith(start) for opening in OPENINGS)
