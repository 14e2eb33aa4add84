"""Runs llama.cpp's server with a tiny model: ``python -m tests.servers.llama_cpp FOLDER PORT KEY CONTEXT_TOKENS``.

It is run in an environment of its own with ``xllamacpp``, which holds llama.cpp's server, and ``gguf``.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import xllamacpp

from tests.servers import weights
from tests.servers.document import CHAT_TEMPLATE, pieces

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
SPACE = "▁"


def write_model(path: Path, context_tokens: int) -> None:
    """Write a model that answers every prompt with the document."""
    tokens = {
        UNKNOWN: gguf.TokenType.UNKNOWN,
        BOS: gguf.TokenType.CONTROL,
        EOS: gguf.TokenType.CONTROL,
        **{_spelled(bytes([byte])): gguf.TokenType.BYTE for byte in range(256)},
        SPACE: gguf.TokenType.NORMAL,
        **{_spelled(piece): gguf.TokenType.NORMAL for piece in pieces() if len(piece) > 1},
    }
    ids = {token: index for index, token in enumerate(tokens)}
    writer = gguf.GGUFWriter(path, "llama")
    _add_sizes(writer, weights.width(len(ids)), context_tokens)
    _add_tokenizer(writer, tokens, ids)
    for name, tensor in _tensors(ids).items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve(model: Path, port: int, key: str, context_tokens: int) -> None:
    """Serve a model until SIGTERM."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = context_tokens
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.api_keys = [key]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _add_sizes(writer: Any, width: int, context_tokens: int) -> None:
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(weights.HEAD)
    writer.add_head_count(width // weights.HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(weights.HEAD)


def _add_tokenizer(writer: Any, tokens: dict[str, Any], ids: dict[str, int]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(tokens))
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(kind) for kind in tokens.values()])
    writer.add_bos_token_id(ids[BOS])
    writer.add_eos_token_id(ids[EOS])
    writer.add_unk_token_id(ids[UNKNOWN])
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(ids: dict[str, int]) -> dict[str, Any]:
    width, narrow = weights.width(len(ids)), weights.HEAD
    square = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (width, width))
    shapes = {**square, "ffn_gate": (narrow, width), "ffn_up": (narrow, width), "ffn_down": (width, narrow)}
    norms = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
    return {
        "token_embd": weights.embedding(len(ids)),
        "output": weights.output(ids, _spelled, EOS),
        **{f"blk.0.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()},
        **{name: np.ones(width, np.float32) for name in norms},
    }


def _spelled(piece: bytes) -> str:
    return f"<0x{piece[0]:02X}>" if len(piece) == 1 else piece.decode().replace(" ", SPACE)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    tiny, tokens_of_context = Path(sys.argv[1]) / "tiny.gguf", int(sys.argv[4])
    write_model(tiny, tokens_of_context)
    serve(tiny, int(sys.argv[2]), sys.argv[3], tokens_of_context)
