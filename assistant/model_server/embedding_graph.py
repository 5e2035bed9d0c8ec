"""The graph of an embedding model: a BERT's built from its safetensors weights without torch, or an exported
ONNX encoder; and OpenVINO, which runs it.

A graph embeds one passage at a time: ``input_ids`` is int64 of shape (1, tokens), the output is float32 of
shape (1, hidden). There is no padding, so there is no attention mask, and a vector cannot depend on its
neighbours in a batch. It computes in fp32, or in bfloat16 where the processor multiplies in it.

Measured on 2 cores with AVX-512 BF16 (tokens a second of both cores' time; cosine to sentence-transformers):
onnxruntime fp32 7,500, exact; OpenVINO fp32 8,300, exact; OpenVINO bf16 14,300, ≥ 0.9999; OpenVINO int8
18,700, ≥ 0.992. The cores' own limit in fp32 is 9,400. OpenVINO's operators build the packaged model's graph
in 0.2 s; the same graph by way of an ONNX file took 1.4 s and 90 MB, with the same bits in its vectors.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import ConfigurationError

Floats = npt.NDArray[np.float32]
Pooling = Literal["mean", "cls"]
Precision = Literal["bfloat16", "float32"]
Config = TypeVar("Config", bound=BaseModel)
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
"""Inputs that an exported encoder may have; the graph that is built here has only ``input_ids``."""
_SHAPES_KEPT = 16
"""Compiled kernels that OpenVINO keeps for each worker, one for each kind of layer and input length: those of
one length. With 1, each layer compiles again."""
_KERNELS_SHARED = "1"
"""oneDNN, inside OpenVINO, keeps 1,024 kernels more unless its variable says fewer. After inputs of each
length from 8 to 256 tokens a process had 416 MiB of its own; so it has 222 (docs/decisions/0166)."""


class BertConfig(BaseModel):
    """What config.json of a plain BERT must say; its other keys do not change the graph."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"]
    hidden_size: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    layer_norm_eps: float = Field(gt=0)
    max_position_embeddings: int = Field(ge=1)
    position_embedding_type: Literal["absolute"] = "absolute"

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads


def read_bert_config(folder: Path) -> BertConfig:
    """Read config.json. Raises ConfigurationError when the model is not a plain BERT."""
    return _read_config(folder, BertConfig, wrong="only plain BERT encoders can be served")


def _read_config(folder: Path, kind: type[Config], *, wrong: str) -> Config:
    """Read config.json as ``kind``. ``wrong``: what its error says. Raises ConfigurationError."""
    path = folder / "config.json"
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (got {fault['input']!r})"
            for fault in error.errors()
        )
        raise ConfigurationError(f"{path}: {wrong}: {faults}") from None


class _AnyConfig(BaseModel):
    """What config.json of an ONNX folder must say, whatever the architecture."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: str = ""
    max_position_embeddings: int = Field(ge=16)


_POSITIONS_BEGIN_AT_2 = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
"""Families whose first two positions stand for padding: their longest input is two tokens shorter."""


def longest_input(folder: Path) -> int:
    """Return the most tokens of one input, special ones included. Raises ConfigurationError."""
    config = _read_config(folder, _AnyConfig, wrong="not the configuration of an encoder")
    return config.max_position_embeddings - (2 if config.model_type in _POSITIONS_BEGIN_AT_2 else 0)


def read_pooling(folder: Path) -> Pooling:
    """Read 1_Pooling/config.json of sentence-transformers; mean when there is none."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    modes = cast("dict[str, Any]", orjson.loads(path.read_bytes()))
    chosen = {name for name, value in modes.items() if name.startswith("pooling_mode_") and value is True}
    if chosen == {"pooling_mode_mean_tokens"}:
        return "mean"
    if chosen == {"pooling_mode_cls_token"}:
        return "cls"
    raise ConfigurationError(f"{path}: only mean or cls pooling can be served, not {sorted(chosen)}.")


def build_encoder(folder: Path, *, pooling: Pooling | None = None) -> Any:
    """Return the openvino.Model of a plain BERT's folder: token ids in, one pooled vector out.

    ``pooling``: None reads it from the folder. Raises ConfigurationError.
    """
    config = read_bert_config(folder)
    tensors = {
        name.removeprefix("bert."): np.asarray(value, np.float32)
        for name, value in read_safetensors(folder / "model.safetensors").items()
        if value.dtype != np.int64
    }
    try:
        return _Encoder(config, tensors).build(pooling or read_pooling(folder))
    except KeyError as error:
        raise ConfigurationError(f"{folder}: the weights lack the tensor {error}.") from None


class _Encoder:
    """Builds the graph of BERT (https://arxiv.org/abs/1810.04805) from OpenVINO's operators.

    Each method returns a node of the graph, whose inputs are the nodes that it was given. ``hidden`` is a
    node of shape (1, tokens, hidden_size), a ``prefix`` the beginning of the names of tensors:
    ``encoder.layer.0.``.
    """

    def __init__(self, config: BertConfig, tensors: Mapping[str, Floats]) -> None:
        self._config = config
        self._tensors = tensors
        self._library = _openvino()
        self._ops: Any = import_module("openvino.opset13")

    def build(self, pooling: Pooling) -> Any:
        """Return the openvino.Model. Raises KeyError for a tensor that the weights lack."""
        ids = self._ops.parameter([1, -1], np.int64)
        ids.output(0).set_names({"input_ids"})
        hidden = self._embed(ids)
        for layer in range(self._config.num_hidden_layers):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        if pooling == "mean":
            pooled = self._ops.reduce_mean(hidden, self._integers(1), False)
        else:
            pooled = self._ops.gather(
                hidden, self._ops.constant(np.array(0)), self._ops.constant(np.array(1))
            )
        return self._library.Model([pooled], [ids], "embedding")

    def _embed(self, ids: Any) -> Any:
        """Embeddings of words, of positions 0…tokens-1 and of segment 0, added and normalised. A passage is
        one segment."""
        ops, zero, unit = self._ops, self._integers(0), self._integers(1)
        words = ops.gather(self._weight("embeddings.word_embeddings.weight"), ids, ops.constant(np.array(0)))
        table = (
            self._tensors["embeddings.position_embeddings.weight"]
            + self._tensors["embeddings.token_type_embeddings.weight"][0]
        )
        count = ops.slice(ops.shape_of(ids), unit, self._integers(2), unit)
        positions = ops.slice(ops.constant(table), zero, count, unit, zero)
        return self._normalise(ops.add(words, positions), "embeddings.LayerNorm.")

    def _layer(self, hidden: Any, prefix: str) -> Any:
        """One layer: attention, then a network of two dense parts, each added to its input and normalised."""
        attended = self._dense(
            self._attend(hidden, prefix + "attention.self."), prefix + "attention.output.dense."
        )
        hidden = self._normalise(self._ops.add(attended, hidden), prefix + "attention.output.LayerNorm.")
        active = self._ops.gelu(self._dense(hidden, prefix + "intermediate.dense."), "erf")
        outer = self._dense(active, prefix + "output.dense.")
        return self._normalise(self._ops.add(outer, hidden), prefix + "output.LayerNorm.")

    def _attend(self, hidden: Any, prefix: str) -> Any:
        """Attention of all heads: softmax(query @ key / √head_size) @ value, shape (1, tokens,
        hidden_size)."""
        ops = self._ops
        query = self._heads(hidden, prefix + "query.", order=(0, 2, 1, 3))
        key = self._heads(hidden, prefix + "key.", order=(0, 2, 3, 1))
        value = self._heads(hidden, prefix + "value.", order=(0, 2, 1, 3))
        scale = ops.constant(np.array(self._config.head_size**-0.5, np.float32))
        weights = ops.softmax(ops.multiply(ops.matmul(query, key, False, False), scale), -1)
        rows = ops.transpose(ops.matmul(weights, value, False, False), self._integers(0, 2, 1, 3))
        return ops.reshape(rows, self._integers(1, -1, self._config.hidden_size), False)

    def _heads(self, hidden: Any, prefix: str, *, order: tuple[int, ...]) -> Any:
        """A dense part split into heads, (1, tokens, heads, head_size), with its axes in ``order``."""
        shape = self._integers(1, -1, self._config.num_attention_heads, self._config.head_size)
        split = self._ops.reshape(self._dense(hidden, prefix), shape, False)
        return self._ops.transpose(split, self._integers(*order))

    def _dense(self, hidden: Any, prefix: str) -> Any:
        """hidden @ weightᵀ + bias."""
        weight = self._ops.constant(np.ascontiguousarray(self._tensors[prefix + "weight"].T))
        return self._ops.add(self._ops.matmul(hidden, weight, False, False), self._weight(prefix + "bias"))

    def _normalise(self, hidden: Any, prefix: str) -> Any:
        """Layer normalisation over the last axis."""
        normal = self._ops.mvn(hidden, self._integers(-1), True, self._config.layer_norm_eps, "inside_sqrt")
        scaled = self._ops.multiply(normal, self._weight(prefix + "weight"))
        return self._ops.add(scaled, self._weight(prefix + "bias"))

    def _weight(self, name: str) -> Any:
        """A constant with the tensor of this name."""
        return self._ops.constant(self._tensors[name])

    def _integers(self, *numbers: int) -> Any:
        """A constant of integers, shape (len(numbers),)."""
        return self._ops.constant(np.array(numbers, np.int64))


# --- safetensors (https://huggingface.co/docs/safetensors, "Format") ------------------------------------


_LONGEST_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of one file by name, mapped from the file, not copied.

    Raises ConfigurationError when the file is not whole, or holds a type other than F32, F16 and I64.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: the weights cannot be read: {error}") from None
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_bytes > min(_LONGEST_HEADER_BYTES, len(data) - 8):
        raise ConfigurationError(f"{path}: not a safetensors file, or cut off; fetch it again.")
    try:
        header = cast("dict[str, Any]", orjson.loads(data[8 : 8 + header_bytes]))
        return {
            name: _tensor(data, start=8 + header_bytes, entry=entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: not a safetensors file of F32, F16 or I64: {error}") from None


def _tensor(data: mmap.mmap, *, start: int, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return one tensor by its entry of the header: ``{"dtype": "F32", "shape": [2, 3], "data_offsets": [0,
    24]}``, offsets in bytes from ``start``."""
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    count = (end - begin) // dtype.itemsize
    return np.frombuffer(data, dtype, count, start + begin).reshape(entry["shape"])


# --- running it -------------------------------------------------------------------------------------------


def load_graph(graph: Any, *, threads: int, precision: Precision) -> Any:
    """Return an openvino.CompiledModel that runs ``threads`` inputs at once, a thread each.

    ``graph`` is an openvino.Model, or the path of an ONNX file.

    ``bfloat16`` rounds the operands of matrix products on processors that multiply in that type; on others
    the graph runs in float32, as no processor gains by imitating it.
    """
    # oneDNN reads it once, with the first kernel.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS_SHARED)
    core = _openvino().Core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" and native else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # the machine's cores are shared with other processes
        "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT,
    }
    return core.compile_model(graph, "CPU", settings)


class PassageRunner:
    """Embeds one passage at a time with a compiled graph: our own, or an exported encoder with its pooling.

    An exported encoder gives a vector a token, (1, tokens, hidden), and is pooled here; one that gives
    (1, hidden) has pooled already.
    """

    def __init__(self, model: Any, *, pooling: Pooling) -> None:
        self._request = model.create_infer_request()
        self._inputs = frozenset(str(tensor.get_any_name()) for tensor in model.inputs)
        self._output = _output_number(model)
        self._pooling = pooling

    def embed(self, ids: Sequence[int]) -> Floats:
        """Return the pooled vector, not normalised, shape (hidden,)."""
        tokens = np.asarray([ids], np.int64)
        inputs = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
            "position_ids": np.arange(tokens.shape[1], dtype=np.int64)[None],
        }
        self._request.infer({name: inputs[name] for name in self._inputs})
        vectors = self._request.get_output_tensor(self._output).data
        if vectors.ndim == 2:
            return vectors[0].copy()
        return (vectors[0].mean(axis=0) if self._pooling == "mean" else vectors[0][0]).astype(np.float32)


def graph_dimensions(path: Path) -> int:
    """Return the length of the graph's vectors.

    Raises ConfigurationError when the file is no graph of an encoder that can be run here.
    """
    try:
        model = _openvino().Core().read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise ConfigurationError(f"{path}: the ONNX graph cannot be read: {reason}") from None
    names = {str(tensor.get_any_name()) for tensor in model.inputs}
    if "input_ids" not in names or not names <= _INPUTS:
        raise ConfigurationError(
            f"{path}: its inputs are {', '.join(sorted(names))}; an encoder with input_ids and at most "
            f"{', '.join(sorted(_INPUTS - {'input_ids'}))} can be run here."
        )
    last = model.outputs[_output_number(model)].get_partial_shape()[-1]
    if last.is_dynamic:
        raise ConfigurationError(
            f"{path}: the graph does not say how long its vectors are. Export it with a fixed hidden size."
        )
    return int(last.get_length())


def _output_number(model: Any) -> int:
    """Return the number of the output that is the vector: the first that is pooled, (1, hidden), else output
    0."""
    ranks = [output.get_partial_shape().rank for output in model.outputs]
    return next((number for number, rank in enumerate(ranks) if rank.is_static and rank.get_length() == 2), 0)


def _openvino() -> Any:
    # Importing openvino loads openvino_telemetry, which can report usage to its maker. None in sys.modules
    # makes that import fail, and openvino goes on without it.
    sys.modules.setdefault("openvino_telemetry", cast("Any", None))
    return import_module("openvino")
