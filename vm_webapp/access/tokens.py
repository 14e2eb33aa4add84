"""``VM_API_TOKEN``, an admin's credential that is set and not stored: comparing it, and recognising it later."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

SALT = b"vm_webapp: a session of VM_API_TOKEN"
ITERATIONS = 600_000  # as OWASP's Password Storage Cheat Sheet has it for PBKDF2-HMAC-SHA256: about 0.2 s


def is_token(given: str, token: str | None) -> bool:
    """Return whether a text is this token, in a time that does not tell how much of it is right; False for no token."""
    # aiohttp decodes headers with surrogateescape: bytes that are not UTF-8 must compare unequal, not raise.
    return token is not None and hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())


@lru_cache(maxsize=4)
def digest_of_token(token: str) -> bytes:
    """Return a digest by which the database recognises a token, and from which nobody guesses it."""
    # Slow, unlike that of a key: people choose this one, and whoever reads the database could try out words.
    return hashlib.pbkdf2_hmac("sha256", token.encode(), SALT, ITERATIONS)
