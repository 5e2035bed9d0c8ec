"""A very small random LLM as a GGUF, with the packaged model's most frequent words and a way to cut them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter

HIDDEN, HEADS, INNER, CONTEXT = 64, 2, 96, 2048
MERGES = 4_000
"""Of the packaged model's 48,900, the most frequent: a reader of all takes two seconds for each file."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)


def write_tiny_gguf(path: Path, *, vocabulary_of: Path, cutting: str, template: str = TEMPLATE) -> Path:
    """Write a one-layer Llama; ``cutting`` is the GGUF's ``tokenizer.ggml.pre``."""
    tokens, kinds, merges = _vocabulary(vocabulary_of)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cutting)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    _add_tensors(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@cache
def _vocabulary(path: Path) -> tuple[list[str], list[int], list[str]]:
    """Return tokens, their kinds and merges. Special tokens and bytes come first, then one token a merge."""
    reader: Any = GGUFReader(path)
    tokens, kinds, merges = (
        reader.get_field(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "token_type", "merges")
    )
    count = len(tokens) - len(merges) + MERGES
    return tokens[:count], kinds[:count], merges[:MERGES]


def _add_tensors(writer: GGUFWriter, vocabulary: int) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (vocabulary, HIDDEN),
        "blk.0.attn_q.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_k.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_v.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_output.weight": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate.weight": (INNER, HIDDEN),
        "blk.0.ffn_up.weight": (INNER, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, INNER),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0, 0.1, shape).astype(np.float32))
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, np.ones(HIDDEN, np.float32))
