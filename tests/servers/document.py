"""The document that the tiny models write, and the pieces in which they write it.

A model's weights say only which piece follows which, so the engines around it are real and their text is known.
"""

from __future__ import annotations

import re

# Characters outside ASCII come as single bytes: an engine has to hold them back until they are complete.
TEXT = """# Plan for a bakery

## What we do – and when

Week 1 brings rye to Weststraße every morning before seven. In week 2 posters tell people who pass what costs how much.
After that, regulars get their fourth loaf free; shops nearby may order by phone until noon.

### How success shows

- thirty more loaves sold daily
- half of all visitors come again
"""
# The last piece of every prompt; the first piece of the text follows it.
PROMPT_END = b":"
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
_PIECE = re.compile(rb"[ \n]*[!-~]+|[ \n]+|[\x80-\xff]")


def pieces() -> list[bytes]:
    """Return the tokens of the text. No two are the same, so that each determines the next."""
    found = _PIECE.findall(TEXT.encode())
    assert len(set(found)) == len(found), sorted(each for each in found if found.count(each) > 1)
    assert PROMPT_END not in found
    return found


def followers() -> dict[bytes, bytes | None]:
    """Return the piece that follows each piece, None after the last."""
    found = [PROMPT_END, *pieces()]
    return dict(zip(found, [*found[1:], None], strict=True))
