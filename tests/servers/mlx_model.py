"""Writes a tiny model for ``mlx_lm.server``: ``python -m tests.servers.mlx_model FOLDER``.

It is run in an environment of its own with ``mlx-lm``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlx.core as mx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.servers import weights
from tests.servers.document import CHAT_TEMPLATE, pieces

BOS, EOS = "<s>", "</s>"


def write_model(folder: Path) -> None:
    """Write a model that answers every prompt with the document."""
    folder.mkdir(parents=True)
    tokens = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [_spelled(piece) for piece in pieces() if len(piece) > 1]
    ids = {token: index for index, token in enumerate(tokens)}
    _write_tokenizer(folder, ids)
    _write_weights(folder, ids)
    _write_config(folder, ids)


def _write_tokenizer(folder: Path, ids: dict[str, int]) -> None:
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BOS, EOS])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    _write_json(folder / "tokenizer_config.json", {**settings, "chat_template": CHAT_TEMPLATE})


def _write_weights(folder: Path, ids: dict[str, int]) -> None:
    width, narrow = weights.width(len(ids)), weights.HEAD
    layer = "model.layers.0"
    shapes = {
        **{f"self_attn.{name}_proj": (width, width) for name in "qkvo"},
        "mlp.gate_proj": (narrow, width),
        "mlp.up_proj": (narrow, width),
        "mlp.down_proj": (width, narrow),
    }
    norms = ("model.norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm")
    tensors = {
        "model.embed_tokens": mx.array(weights.embedding(len(ids))),
        "lm_head": mx.array(weights.output(ids, _spelled, EOS)),
        **{f"{layer}.{name}": mx.zeros(shape) for name, shape in shapes.items()},
        **{name: mx.ones(width) for name in norms},
    }
    mx.save_safetensors(str(folder / "model.safetensors"), {f"{name}.weight": each for name, each in tensors.items()})


def _write_config(folder: Path, ids: dict[str, int]) -> None:
    width = weights.width(len(ids))
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": 1,
        "intermediate_size": weights.HEAD,
        "num_attention_heads": width // weights.HEAD,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(ids),
        "tie_word_embeddings": False,
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[EOS],
    }
    _write_json(folder / "config.json", config)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _spelled(piece: bytes) -> str:
    """Return a piece as byte-level tokenizers spell it."""
    # The tokenizer's own alphabet: a printable character stands for each byte.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return "".join(letters[byte] for byte in piece)


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
