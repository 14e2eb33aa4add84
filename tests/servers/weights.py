"""The weights of the tiny models: one layer without attention, in which the last token alone determines the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.servers.document import followers

HEAD = 64  # dimensions of an attention head
SURE = 10.0  # far above all other logits at any temperature


def width(tokens: int) -> int:
    """Return a model's dimensions: at least one for each token, in whole heads."""
    return -(-tokens // HEAD) * HEAD


def embedding(tokens: int) -> Any:
    """Return the matrix of the input, which gives each token a dimension of its own."""
    return np.eye(tokens, width(tokens), dtype=np.float32)


def output(ids: Mapping[str, int], spelled: Callable[[bytes], str], eos: str) -> Any:
    """Return the matrix of the output, which makes each token's successor certain.

    Args:
        ids: the tokens, by their spelling.
        spelled: how this tokenizer spells a piece.
        eos: the token that ends the text; it follows every token that is not in the document.
    """
    weights = np.zeros((len(ids), width(len(ids))), dtype=np.float32)
    weights[ids[eos]] = SURE
    for piece, following in followers().items():
        here = ids[spelled(piece)]
        weights[ids[eos], here] = 0.0
        weights[ids[eos if following is None else spelled(following)], here] = SURE
    return weights
