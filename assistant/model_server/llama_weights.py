"""Weights of the Llama family between a GGUF file, a folder of Hugging Face's and an adapter (LoRA).

Nothing here needs torch. A GGUF stores the rows of the query and key projections of each head in another
order, since llama.cpp turns neighbouring numbers of a head and transformers its halves: ``permute`` in
https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py. The sum of an adapter is
W + lora_alpha / r * B·A, https://arxiv.org/abs/2106.09685, section 4.1.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import orjson
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import tokenizer_from_gguf
from assistant.model_server.embedding_graph import read_safetensors
from assistant.model_server.weights import gguf_field
from assistant.settings.model_artifacts import file_sha256

FOLDER, GGUF, FACTS = "hugging_face", "model.gguf", "weights.json"
"""What ``write_weights`` leaves: a folder to train on, a file to serve, their origin."""
NumberType = Literal["f32", "f16", "q8_0"]
"""Of the matrices in the GGUF. Four bits are not offered: a base of four bits lies on their grid, and rounds
an adapter away (docs/decisions/0082-training-jobs.md)."""
_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_NOT_PLAIN = ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern")
"""Settings of an adapter that need another sum."""
_LORA = "base_model.model."
_Matrix = npt.NDArray[np.float32]


def write_weights(base: Path, adapter: Path | None, out: Path, *, types: NumberType) -> Mapping[str, Any]:
    """Write a GGUF's weights, with an adapter's added, as ``FOLDER`` (F32) and ``GGUF`` below ``out``.

    All of it is held in memory: four bytes a weight, and the GGUF's. Returns what ``FACTS`` holds. Raises
    ConfigurationError for another family, for an adapter of another base or with parts that are not known
    here, and for a folder that is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigurationError(f"{out} is not empty. Name a new folder for the weights.")
    reader = _llama(base)
    deltas = {} if adapter is None else read_adapter(adapter)
    facts = _facts(base, adapter, reader)
    writer, written = _writer_like(reader, out / GGUF), dict[str, _Matrix]()
    for tensor, name, numbers in _tensors(reader):
        low_rank, matrix = deltas.pop(name.removesuffix(".weight"), None), numbers
        if low_rank is not None:
            if low_rank.shape != matrix.shape:
                raise ConfigurationError(f"{adapter}: {name} has another shape. Name the adapter's base.")
            matrix = numbers + low_rank
        written[name] = matrix
        kind = GGMLQuantizationType.F32 if len(tensor.shape) == 1 else GGMLQuantizationType[types.upper()]
        writer.add_tensor(
            tensor.name, quants.quantize(_reordered(matrix, tensor, reader), kind), raw_dtype=kind
        )
    if deltas:
        raise ConfigurationError(f"{adapter}: the base has no {min(deltas)}. Name the adapter's base.")
    (out / FOLDER).mkdir(parents=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _write_folder(out / FOLDER, written, reader=reader, base=base, facts=facts)
    return facts


def read_adapter(folder: Path) -> dict[str, _Matrix]:
    """Return what an adapter of ``peft`` adds to each module, by the module's name in Hugging Face's folder.

    Raises ConfigurationError for another kind of adapter than plain LoRA.
    """
    try:
        config: dict[str, Any] = orjson.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigurationError(f"{folder}: no adapter of peft: {error}.") from None
    other = [name for name in _NOT_PLAIN if config.get(name)]
    if config.get("peft_type") != "LORA" or other:
        raise ConfigurationError(
            f"{folder}: no plain LoRA ({', '.join(other) or config.get('peft_type')}). Merge it by peft."
        )
    tensors = read_safetensors(folder / "adapter_model.safetensors")
    scale = np.float32(config["lora_alpha"] / config["r"])
    deltas: dict[str, _Matrix] = {}
    for name, down in tensors.items():
        module, is_down, _ = name.removeprefix(_LORA).partition(".lora_A.weight")
        if is_down:
            up = tensors[name.replace("lora_A", "lora_B")]
            deltas[module] = scale * (up.astype(np.float32) @ down.astype(np.float32))
    if 2 * len(deltas) != len(tensors):
        raise ConfigurationError(
            f"{folder}: it holds more than pairs of lora_A and lora_B. Merge it by peft."
        )
    return deltas


def _facts(base: Path, adapter: Path | None, reader: Any) -> Mapping[str, Any]:
    """Return where the weights come from. Raises ConfigurationError for an adapter of another base."""
    facts = {"file": base.name, "sha256": file_sha256(base), "license": gguf_field(reader, "general.license")}
    if adapter is None:
        return {"schema_version": 1, "base": facts, "adapter": None}
    path = adapter / "training.json"
    card: dict[str, Any] = orjson.loads(path.read_bytes()) if path.is_file() else {}
    trained_on = (card.get("base_weights") or {"base": facts})["base"]
    if trained_on["sha256"] != facts["sha256"]:
        raise ConfigurationError(
            f"{adapter} was trained on {trained_on['file']} ({trained_on['sha256'][:12]}), and {base.name} "
            f"is {facts['sha256'][:12]}. Name the adapter's base."
        )
    digest = file_sha256(adapter / "adapter_model.safetensors")
    return {"schema_version": 1, "base": facts, "adapter": {"sha256": digest, "training": card or None}}


def _llama(path: Path) -> Any:
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigurationError(f"{path}: not a GGUF file: {error}. Name the base model's.") from None
    architecture = gguf_field(reader, "general.architecture")
    if architecture != "llama":
        raise ConfigurationError(
            f"{path}: its architecture is {architecture}, and only llama is turned here. Train on the folder "
            "of Hugging Face's instead, with the hyperparameter merge=1."
        )
    return reader


def _tensors(reader: Any) -> Iterator[tuple[Any, str, _Matrix]]:
    """Yield each tensor of the file, its name in Hugging Face's folder, and its numbers in that order."""
    for tensor in reader.tensors:
        numbers = quants.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(tensor.shape)[::-1])
        yield tensor, _name_of(tensor.name), _reordered(numbers, tensor, reader, is_back=True)


def _name_of(name: str) -> str:
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    block, _, rest = name.removeprefix("blk.").partition(".")
    module = rest.removesuffix(".weight")
    if not rest.endswith(".weight") or module not in _IN_LAYER:
        raise ConfigurationError(f"The tensor {name} is none of a plain Llama. Take another base model.")
    return f"model.layers.{block}.{_IN_LAYER[module]}.weight"


def _reordered(matrix: _Matrix, tensor: Any, reader: Any, *, is_back: bool = False) -> _Matrix:
    """Return a matrix with the rows of each head in the order of a GGUF, or back in that of transformers."""
    count = {"attn_q": _heads(reader)[0], "attn_k": _heads(reader)[1]}.get(tensor.name.split(".")[-2])
    if count is None:
        return matrix
    half = matrix.shape[0] // count // 2
    order = (count, half, 2, -1) if is_back else (count, 2, half, -1)
    return np.ascontiguousarray(matrix.reshape(order).swapaxes(1, 2).reshape(matrix.shape))


def _heads(reader: Any) -> tuple[int, int]:
    """Return the heads of queries, and of keys."""
    queries = int(gguf_field(reader, "llama.attention.head_count"))
    return queries, int(gguf_field(reader, "llama.attention.head_count_kv") or queries)


def _writer_like(reader: Any, path: Path) -> GGUFWriter:
    """Return a writer that has a file's fields: vocabulary, template and sizes, not its type."""
    writer = GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    return writer


# --- the folder (https://huggingface.co/docs/transformers/model_doc/llama, "LlamaConfig") ---------------


def _write_folder(
    folder: Path, tensors: Mapping[str, _Matrix], *, reader: Any, base: Path, facts: Mapping[str, Any]
) -> None:
    theta, (queries, keys) = gguf_field(reader, "llama.rope.freq_base") or 10_000.0, _heads(reader)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": gguf_field(reader, "llama.embedding_length"),
        "intermediate_size": gguf_field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": gguf_field(reader, "llama.block_count"),
        "num_attention_heads": queries,
        "num_key_value_heads": keys,
        "max_position_embeddings": gguf_field(reader, "llama.context_length"),
        "rms_norm_eps": gguf_field(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "dtype": "float32",
    }
    tokens = cast("list[str]", gguf_field(reader, "tokenizer.ggml.tokens"))
    words = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for name, field in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = gguf_field(reader, f"tokenizer.ggml.{field}_token_id")
        if number is not None:
            config[f"{name}_token_id"], words[f"{name}_token"] = int(number), tokens[int(number)]
    template = gguf_field(reader, "tokenizer.chat_template")
    if template is not None:
        words["chat_template"] = template
    for name, content in (("config.json", config), ("tokenizer_config.json", words), (FACTS, facts)):
        (folder / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    (folder / "tokenizer.json").write_text(tokenizer_from_gguf(base).to_str())
    write_safetensors(folder / "model.safetensors", tensors)


def write_safetensors(path: Path, tensors: Mapping[str, _Matrix]) -> None:
    """Write F32 tensors by name (https://huggingface.co/docs/safetensors, "Format")."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": (end, end + tensor.nbytes)}
        end += tensor.nbytes
    raw = orjson.dumps(header)
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).data)
