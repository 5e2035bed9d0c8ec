"""A stand-in of the serving image's ``optimum-cli export neuron``, a process.

It compiles nothing. It refuses what optimum-neuron 0.4.5 refuses (huggingface/optimum-neuron, commit
abf5985828e56167ab2e48c4d5e14a83e40b6370; each refusal names file and line), and writes the files that the
export writes, without content.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = {"trn1": "trn1", "trn1n": "trn1", "inf2": "trn1", "trn2": "trn2"}  # instance.py:25-30
BATCHING = ("granite", "llama", "llama4_text", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3")
"""Families whose ``_get_neuron_config`` sets ``continuous_batching = batch_size > 1``, their own or llama's:
optimum/neuron/models/inference/llama/modeling_llama.py:351, qwen3/modeling_qwen3.py:139 and beside them."""


# --- a model's weights, for tests -------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The folder that a hub gives of a decoder of the Llama and Qwen families."""

    model_type: str = "qwen3"
    dtype: str = "bfloat16"

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": self.model_type, "dtype": self.dtype}))
        for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_text("{}")
        (folder / "chat_template.jinja").write_text("{{ messages }}")
        (folder / "model.safetensors").write_bytes(b"weights")
        return folder


# --- the command ------------------------------------------------------------------------------------------
def export(given: argparse.Namespace) -> None:
    weights, made = Path(given.model), Path(given.output)
    if given.task == "auto":
        # TasksManager "does not support local directories": optimum/commands/neuron/serve.py:202 of 213224e6
        raise RuntimeError("Cannot infer the task of a local directory")
    config: dict[str, Any] = json.loads((weights / "config.json").read_text())
    if not list(weights.glob("*.safetensors")):
        raise FileNotFoundError(f"No weights in {weights}")
    neuron = {
        "batch_size": given.batch_size,
        "continuous_batching": config["model_type"] in BATCHING and given.batch_size > 1,
        "sequence_length": given.sequence_length,
        "tp_degree": given.tensor_parallel_size,
        "torch_dtype": config["dtype"],  # of the weights, whatever is asked: inference/modeling_utils.py:141
        "target": TARGETS[given.instance_type],
    }
    shards = made / "checkpoint/weights"
    shards.mkdir(parents=True)
    for rank in range(given.tensor_parallel_size):
        (shards / f"tp{rank}_sharded_checkpoint.safetensors").write_bytes(b"shard %d" % rank)
    (made / "model.pt").write_bytes(b"compiled")
    (made / "config.json").write_text(json.dumps(config))
    (made / "neuron_config.json").write_text(json.dumps(neuron))
    # exporters/neuron/__main__.py:777: the tokenizer's own files; no generation_config.json
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (weights / name).exists():
            shutil.copyfile(weights / name, made / name)
    (made / "special_tokens_map.json").write_text("{}")
    (made / "chat_template.jinja").write_text("the tokenizer's own")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("optimum-cli", allow_abbrev=False)
    exporting = parser.add_subparsers(required=True).add_parser("export")
    exporting = exporting.add_subparsers(required=True).add_parser("neuron")
    exporting.add_argument("output")
    exporting.add_argument("--task", default="auto")
    # optimum/commands/export/neuronx.py:48-55
    exporting.add_argument("--instance_type", choices=TARGETS, required=True)
    exporting.add_argument("--model", required=True)
    for name in ("batch_size", "sequence_length", "tensor_parallel_size"):
        exporting.add_argument(f"--{name}", type=int)
    export(parser.parse_args(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
