"""A small random BERT in the published folder layout."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

Floats = npt.NDArray[np.float32]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "refill", "claim", "reject", "code", "dose", "card"]


def _config() -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "layer_norm_eps": 1e-12,
    }


@dataclass
class TinyBert:
    """Weights by the published names; ``prefix`` is what some files put before them."""

    seed: int = 0
    prefix: str = ""
    config: dict[str, Any] = field(default_factory=_config)

    def tensors(self) -> dict[str, Floats]:
        rng = np.random.default_rng(self.seed)
        hidden, inner = self.config["hidden_size"], self.config["intermediate_size"]
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (len(WORDS), hidden),
            "embeddings.position_embeddings.weight": (self.config["max_position_embeddings"], hidden),
            "embeddings.token_type_embeddings.weight": (2, hidden),
            "embeddings.LayerNorm.weight": (hidden,),
            "embeddings.LayerNorm.bias": (hidden,),
        }
        for layer in range(self.config["num_hidden_layers"]):
            at = f"encoder.layer.{layer}."
            for name in ("query", "key", "value"):
                shapes |= _dense(at + f"attention.self.{name}", hidden, hidden)
            shapes |= _dense(at + "attention.output.dense", hidden, hidden)
            shapes |= _dense(at + "intermediate.dense", inner, hidden)
            shapes |= _dense(at + "output.dense", hidden, inner)
            for name in ("attention.output.LayerNorm", "output.LayerNorm"):
                shapes |= {at + name + ".weight": (hidden,), at + name + ".bias": (hidden,)}
        return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "model.safetensors").write_bytes(safetensors(self.tensors(), self.prefix))
        tokenizer().save(str(folder / "tokenizer.json"))
        return folder


def tokenizer() -> Tokenizer:
    """Words of a small vocabulary; it truncates and pads as shipped tokenizers do."""
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    made.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(8)
    made.enable_padding(length=8)
    return made


def safetensors(tensors: dict[str, Floats], prefix: str = "") -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        header[prefix + name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def _dense(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {name + ".weight": (rows, columns), name + ".bias": (rows,)}
