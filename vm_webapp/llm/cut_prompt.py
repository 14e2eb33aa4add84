"""Recognizes a server that read only a part of the prompt, and did not say so.

Ollama, for one, keeps what fits into its context, drops the rest and responds with status 200: the artifact then
ignores what the dropped part had asked for. The token count is the only sign of it.
"""

from __future__ import annotations

import re

from vm_webapp.llm.base import Assignment

FEWEST_CHARACTERS = 4_000
# A token has 4 to 5.5 characters of English, 3 to 4 of German or code and 1 to 2 of Chinese, by vocabularies of 100,000
# and more. Eight is well beyond all of them, so that no prompt that was read is called cut.
CHARACTERS_PER_TOKEN = 8
# One token may stand for a whole run of spaces, dashes or the like: an indentation, a rule of a table.
RUN = re.compile(r"([\W_])\1+")


def note_on_prompt(assignment: Assignment, prompt_tokens: int | None) -> str | None:
    """Return a note for the artifact where the server counted far fewer tokens than the prompt must have.

    A cut that leaves more than a token for every eight characters is not recognized.

    Args:
        assignment: what was sent.
        prompt_tokens: how many tokens the server counted; None or 0 where it did not count.
    """
    sent = len(assignment.system) + len(assignment.user)
    # The quick check first: a prompt may have hundreds of thousands of characters, and all calls share one loop.
    if not prompt_tokens or sent < FEWEST_CHARACTERS or sent <= prompt_tokens * CHARACTERS_PER_TOKEN:
        return None
    dense = len(RUN.sub(r"\1", assignment.system)) + len(RUN.sub(r"\1", assignment.user))
    if dense < FEWEST_CHARACTERS or dense <= prompt_tokens * CHARACTERS_PER_TOKEN:
        return None
    return (
        f"the server counted {prompt_tokens} tokens for a prompt of {sent} characters, so it probably cut the prompt:"
        " raise its context length (Ollama: OLLAMA_CONTEXT_LENGTH)"
    )
