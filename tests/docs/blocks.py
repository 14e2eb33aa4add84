"""The parts of documents that are made of the code: each stands between two comments.

<!-- made of the code: roles -->
…
<!-- end -->
"""

from __future__ import annotations

import re

import pytest

from tests.support.processes import ROOT


def check_block(document: str, name: str, content: str, *, anew: bool) -> None:
    """Compare a part of a document with what it is made of, or write it anew.

    Args:
        document: the file in ``docs/``.
        name: the name in the comment before the part.
        content: what it should be.
        anew: whether ``--record`` was given: the diff is then for a person to judge.
    """
    path = ROOT / "docs" / document
    text = path.read_text(encoding="utf-8")
    block = re.compile(rf"(?<=<!-- made of the code: {name} -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)
    (found,) = block.findall(text)
    if anew:
        path.write_text(block.sub(lambda _: content, text), encoding="utf-8")
        pytest.skip("written anew: look at the diff")
    assert found == content, "write it anew with --record, and look at the diff"
