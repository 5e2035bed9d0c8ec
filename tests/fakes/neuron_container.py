"""A stand-in of the serving image's ``optimum-cli``, a process: ``export neuron`` and ``neuron serve``.

It compiles nothing and serves nothing. It refuses what optimum-neuron 0.4.5 refuses
(huggingface/optimum-neuron, commit abf5985828e56167ab2e48c4d5e14a83e40b6370; each refusal names file and
line), and writes the files that the export writes, with weights of the right shapes and no content (sparse
files).

What a chip does when its memory is full stands in no source: the stand-in adds up every tensor of a core, by
its shape, and refuses more than nine tenths of the core's 16 GB, as the manifests' check does for all cores.

``STAND_IN_INSTANCE`` names the instance (``inf2.8xlarge``); without it there is no Neuron device.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "STAND_IN_INSTANCE"
ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
TORCH_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
SUPPORTED = ("trn1", "inf2", "trn1n", "trn2")  # optimum/neuron/utils/instance.py:24
TARGETS = {"trn1": "trn1", "trn1n": "trn1", "inf2": "trn1", "trn2": "trn2"}  # instance.py:25-30
BATCHING = ("granite", "llama", "llama4_text", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3")
"""Families whose ``_get_neuron_config`` sets ``continuous_batching = batch_size > 1``, their own or llama's:
optimum/neuron/models/inference/llama/modeling_llama.py:351, qwen3/modeling_qwen3.py:139 and beside them."""
FAMILIES = (*BATCHING, "mixtral")  # optimum/neuron/models/inference/auto_models.py:46-127
CORE_BYTES = 16_000_000_000
"""Two cores and 32 GB a chip: https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/"""
CORE_SHARE = 0.9
HOST_RESERVE = 4 * 2**30
HOSTS = {  # cores, host bytes: https://aws.amazon.com/ec2/instance-types/ (Inf2, Trn1), read 2026-11-20
    "inf2.xlarge": (2, 16 * 2**30),
    "inf2.8xlarge": (2, 128 * 2**30),
    "inf2.24xlarge": (12, 384 * 2**30),
    "inf2.48xlarge": (24, 768 * 2**30),
    "trn1.2xlarge": (2, 32 * 2**30),
    "trn1.32xlarge": (32, 512 * 2**30),
}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Data type and shape of each tensor of a file."""


# --- tensors ----------------------------------------------------------------------------------------------
def write_tensors(path: Path, shapes: Shapes) -> None:
    """Write a safetensors file whose tensors are holes in the file.

    https://huggingface.co/docs/safetensors: the header's length in 8 bytes, the header, the data.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + size_of(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def read_shapes(path: Path) -> Shapes:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    size = ITEM_BYTES[dtype]
    for factor in shape:
        size *= factor
    return size


def head_counts(tensor_parallel: int, query_heads: int, kv_heads: int) -> tuple[int, int]:
    """Return the query and key-value heads of all cores together: backend/modules/attention/gqa.py:58."""
    padded = query_heads + -query_heads % tensor_parallel
    if query_heads == kv_heads:
        return padded, padded
    if kv_heads < tensor_parallel or kv_heads % tensor_parallel:
        return padded, tensor_parallel if tensor_parallel % kv_heads == 0 else padded
    return padded, kv_heads


def shapes_of_core(shapes: Shapes, config: Mapping[str, Any], tensor_parallel: int) -> Shapes:
    """Return one core's tensors: linear layers and embeddings split, norms whole, heads padded or copied."""
    size = head_size(config)
    query, kv = head_counts(tensor_parallel, config["num_attention_heads"], config["num_key_value_heads"])
    rows = {"q_proj": query * size, "k_proj": kv * size, "v_proj": kv * size}
    columns = {"o_proj": query * size}
    of_core: dict[str, tuple[str, tuple[int, ...]]] = {}
    tied = config.get("tie_word_embeddings", False)
    if tied:  # llama/modeling_llama.py:337: the head is a copy
        shapes = {**shapes, "lm_head.weight": shapes["model.embed_tokens.weight"]}
    for name, (dtype, shape) in shapes.items():
        layer = name.split(".")[-2]
        if len(shape) == 1:
            of_core[name] = (dtype, shape)
        elif layer in (
            "o_proj",
            "down_proj",
            "embed_tokens",
        ):  # across the inputs; the embedding across its width
            whole = columns.get(layer, shape[1])
            of_core[name] = (dtype, (shape[0], -(-whole // tensor_parallel)))
        else:
            whole = rows.get(layer, shape[0])
            of_core[name] = (dtype, (-(-whole // tensor_parallel), shape[1]))
    return of_core


def cache_shapes(
    config: Mapping[str, Any], neuron: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each tensor of one core's key-value cache: backend/modules/kvcache/kv_cache_manager.py:46-63."""
    degree = neuron["tp_degree"]
    _, kv = head_counts(degree, config["num_attention_heads"], config["num_key_value_heads"])
    shape = (neuron["batch_size"], kv // degree, neuron["sequence_length"], head_size(config))
    for _ in range(2 * config["num_hidden_layers"]):
        yield TORCH_NAMES[neuron["torch_dtype"]], shape


def head_size(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


# --- a model's weights, for tests -------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder of the Llama and Qwen families."""

    model_type: str = "qwen3"
    hidden: int
    intermediate: int
    layers: int
    query_heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    dtype: str = "bfloat16"
    tied: bool = False

    def config(self) -> dict[str, Any]:
        return {
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.query_heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "vocab_size": self.vocabulary,
            "dtype": self.dtype,
            "tie_word_embeddings": self.tied,
        }

    def shapes(self) -> Shapes:
        item = TORCH_NAMES[self.dtype]
        query, kv = self.query_heads * self.head_size, self.kv_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for number in range(self.layers):
            layer = f"model.layers.{number}"
            shapes |= {
                f"{layer}.self_attn.q_proj.weight": (query, self.hidden),
                f"{layer}.self_attn.k_proj.weight": (kv, self.hidden),
                f"{layer}.self_attn.v_proj.weight": (kv, self.hidden),
                f"{layer}.self_attn.o_proj.weight": (self.hidden, query),
                f"{layer}.mlp.gate_proj.weight": (self.intermediate, self.hidden),
                f"{layer}.mlp.up_proj.weight": (self.intermediate, self.hidden),
                f"{layer}.mlp.down_proj.weight": (self.hidden, self.intermediate),
                f"{layer}.input_layernorm.weight": (self.hidden,),
                f"{layer}.post_attention_layernorm.weight": (self.hidden,),
            }
            if self.model_type == "qwen3":
                norms = ("q_norm", "k_norm")
                shapes |= {f"{layer}.self_attn.{norm}.weight": (self.head_size,) for norm in norms}
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary, self.hidden)
        return {name: (item, shape) for name, shape in shapes.items()}

    def write(self, folder: Path) -> Path:
        """Write the folder that a hub gives; the weights have shapes and no content."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.config()))
        (folder / "generation_config.json").write_text("{}")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_text("{}")
        (folder / "chat_template.jinja").write_text("{{ messages }}")
        write_tensors(folder / "model.safetensors", self.shapes())
        return folder


# --- the commands -----------------------------------------------------------------------------------------
def export(given: argparse.Namespace) -> None:
    weights, made = Path(given.model), Path(given.output)
    if given.task == "auto":
        # TasksManager "does not support local directories": optimum/commands/neuron/serve.py:202 of 213224e6
        raise RuntimeError("Cannot infer the task of a local directory")
    config: dict[str, Any] = json.loads((weights / "config.json").read_text())
    if config["model_type"] not in FAMILIES:
        raise ValueError(
            f"{config['model_type']} is not supported"
        )  # optimum/exporters/neuron/__main__.py:751
    files = sorted(weights.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"No weights in {weights}")
    shapes = {name: entry for file in files for name, entry in read_shapes(file).items()}
    neuron = {
        "batch_size": given.batch_size,
        "continuous_batching": config["model_type"] in BATCHING and given.batch_size > 1,
        "sequence_length": given.sequence_length,
        "tp_degree": given.tensor_parallel_size,
        "torch_dtype": config["dtype"],  # of the weights, whatever is asked: inference/modeling_utils.py:141
        "target": TARGETS[given.instance_type],
    }
    for rank in range(given.tensor_parallel_size):
        shard = made / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors"
        write_tensors(shard, shapes_of_core(shapes, config, given.tensor_parallel_size))
    (made / "model.pt").write_bytes(b"compiled")
    (made / "config.json").write_text(json.dumps(config))
    (made / "neuron_config.json").write_text(json.dumps(neuron))
    # exporters/neuron/__main__.py:777: the tokenizer's own files; no generation_config.json
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (weights / name).exists():
            shutil.copyfile(weights / name, made / name)
    (made / "special_tokens_map.json").write_text("{}")
    (made / "chat_template.jinja").write_text("the tokenizer's own")


def current_target() -> str:
    """optimum/neuron/utils/system.py:41, instance.py:34-47."""
    if not (instance := os.environ.get(VARIABLE)):
        raise RuntimeError("No Neuron device detected.")
    family = instance.split(".")[0]
    if family not in SUPPORTED:
        raise ValueError(f"{family} is not a valid instance type, supported instance types are: {SUPPORTED}.")
    return TARGETS[family]


def serve(given: argparse.Namespace) -> None:
    target, folder = current_target(), Path(given.model)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    if not (folder / "neuron_config.json").exists():  # optimum/commands/neuron/serve.py:185-236
        raise ValueError(f"No cached version found for {folder}")
    neuron: dict[str, Any] = json.loads((folder / "neuron_config.json").read_text())
    if neuron["target"] != target:  # serve.py:144
        raise ValueError(f"The neuron model is compiled for {neuron['target']} and cannot run on {target}.")
    cores, host = HOSTS[os.environ[VARIABLE]]
    for name, compiled in (
        ("batch_size", neuron["batch_size"]),  # serve.py:150
        ("sequence_length", neuron["sequence_length"]),  # serve.py:157
        ("tensor_parallel_size", neuron["tp_degree"]),  # serve.py:164
    ):
        if getattr(given, name) not in (None, compiled):
            raise ValueError(f"The specified {name} {getattr(given, name)} is inconsistent with {compiled}")
    if (
        neuron["tp_degree"] > cores
    ):  # optimum/neuron/vllm/model_loader.py:71, inference/backend/pretrained_model.py:408
        raise ValueError(
            f"The model requires at least {neuron['tp_degree']} Neuron cores, {cores} available."
        )
    if not neuron["continuous_batching"]:  # optimum/neuron/vllm/AGENTS.md:9
        raise ValueError("Only NxD backend with continuous_batching: true is supported")
    (folder / "model.pt").read_bytes()  # pretrained_model.py:428
    load(folder, config, neuron, host=host)


def load(folder: Path, config: Mapping[str, Any], neuron: Mapping[str, Any], *, host: int) -> None:
    """All cores' weights lie in the host's memory before the first is written to a core:
    pretrained_model.py:190-214."""
    weights: list[int] = []
    for rank in range(neuron["tp_degree"]):
        shard = folder / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors"
        weights.append(sum(size_of(*entry) for entry in read_shapes(shard).values()))
    if sum(weights) + HOST_RESERVE > host:
        raise MemoryError(f"{sum(weights)} bytes of weights do not fit a host of {host} bytes")
    cache = sum(size_of(*entry) for entry in cache_shapes(config, neuron))
    if max(weights) + cache > CORE_SHARE * CORE_BYTES:
        raise MemoryError(f"a core needs {max(weights)} bytes of weights and {cache} of cache")
    sys.stdout.write(json.dumps({"weights": sum(weights), "cache": cache * neuron["tp_degree"]}))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("optimum-cli", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    exporting = commands.add_parser("export").add_subparsers(required=True).add_parser("neuron")
    exporting.add_argument("output")
    exporting.add_argument("--task", default="auto")
    exporting.add_argument(  # optimum/commands/export/neuronx.py:48-55
        "--instance_type", choices=SUPPORTED, required=VARIABLE not in os.environ, default="trn1"
    )
    exporting.set_defaults(run=export)
    serving = commands.add_parser("neuron").add_subparsers(required=True).add_parser("serve")
    serving.set_defaults(run=serve)
    for command in (exporting, serving):
        command.add_argument("--model", required=True)
        for name in ("batch_size", "sequence_length", "tensor_parallel_size"):
            command.add_argument(f"--{name}", type=int)
    given = parser.parse_args(arguments)
    given.run(given)


if __name__ == "__main__":
    main(sys.argv[1:])
