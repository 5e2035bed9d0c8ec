"""The ONNX graph of a BERT encoder with pooling, built from its safetensors weights without torch.

One passage at a time: ``input_ids`` is int64 of shape (1, tokens), ``pooled`` is float32 of shape
(1, hidden). There is no padding, so there is no attention mask, and a vector cannot depend on its neighbours
in a batch. Only standard operators: the published model's mathematics in fp32, whatever runs it."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import ConfigurationError

BUILDER_VERSION = 2
"""Part of the cached graph's name: raise it whenever the graph that is built changes."""
_OPSET = 20
_IR_VERSION = 9
Floats = npt.NDArray[np.float32]
Pooling = Literal["mean", "cls"]
Config = TypeVar("Config", bound=BaseModel)


class BertConfig(BaseModel):
    """What config.json must say; other keys of it do not change the graph."""

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
    path = folder / "config.json"
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']} (got {one['input']!r})" for one in error.errors()
        )
        raise ConfigurationError(f"{path}: {wrong}: {found}") from None


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


def build_embedding_graph(folder: Path, *, pooling: Pooling | None = None) -> bytes:
    """Return the serialised ONNX model of the folder's weights. Raises ConfigurationError.

    Without ``pooling`` the folder says it.
    """
    config = read_bert_config(folder)
    tensors = {
        name.removeprefix("bert."): np.asarray(value, np.float32)
        for name, value in read_safetensors(folder / "model.safetensors").items()
        if value.dtype != np.int64
    }
    try:
        return _Graph(config, tensors).build(pooling or read_pooling(folder))
    except KeyError as error:
        raise ConfigurationError(f"{folder}: the weights lack the tensor {error}.") from None


class _Graph:
    """Nodes and weights in the order in which they are added."""

    def __init__(self, config: BertConfig, tensors: Mapping[str, Floats]) -> None:
        from onnx import GraphProto

        self._config = config
        self._tensors = tensors
        self._proto = GraphProto(name="embedding")

    def build(self, pooling: Pooling) -> bytes:
        from onnx import TensorProto, helper

        config = self._config
        self._proto.input.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"]))
        hidden = self._embed()
        for layer in range(config.num_hidden_layers):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        self._pool(hidden, pooling)
        self._proto.output.append(
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, config.hidden_size])
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(self._proto, opset_imports=opsets, ir_version=_IR_VERSION)
        return model.SerializeToString()

    def _embed(self) -> str:
        """Words + positions 0…tokens-1 + segment 0, normalised. Every passage is one segment."""
        words = self._node(
            "Gather", [self._weight("embeddings.word_embeddings.weight"), "input_ids"], "words"
        )
        count = self._node("Shape", ["input_ids"], "token_count", start=1, end=2)
        table = (
            self._tensors["embeddings.position_embeddings.weight"]
            + self._tensors["embeddings.token_type_embeddings.weight"][0]
        )
        # A slice of the table: onnxruntime fuses Gather over Range into an invalid Slice.
        positions = self._node(
            "Slice",
            [self._constant("positions", table), self._constant("zero", np.zeros(1, np.int64)), count],
            "position",
        )
        summed = self._node("Add", [words, positions], "embedded")
        return self._normalise(summed, "embeddings.LayerNorm.")

    def _layer(self, hidden: str, prefix: str) -> str:
        attended = self._dense(self._attend(hidden, prefix), prefix + "attention.output.dense.")
        summed = self._node("Add", [attended, hidden], prefix + "attention.residual")
        hidden = self._normalise(summed, prefix + "attention.output.LayerNorm.")
        inner = self._dense(hidden, prefix + "intermediate.dense.")
        active = self._node("Gelu", [inner], prefix + "active", approximate="none")
        outer = self._dense(active, prefix + "output.dense.")
        summed = self._node("Add", [outer, hidden], prefix + "residual")
        return self._normalise(summed, prefix + "output.LayerNorm.")

    def _attend(self, hidden: str, prefix: str) -> str:
        prefix += "attention.self."
        query = self._heads(hidden, prefix + "query.", order=[0, 2, 1, 3])
        key = self._heads(hidden, prefix + "key.", order=[0, 2, 3, 1])
        value = self._heads(hidden, prefix + "value.", order=[0, 2, 1, 3])
        scale = np.array(1.0 / math.sqrt(self._config.head_size), np.float32)
        products = self._node("MatMul", [query, key], prefix + "products")
        scores = self._node("Mul", [products, self._constant(prefix + "scale", scale)], prefix + "scores")
        weights = self._node("Softmax", [scores], prefix + "weights", axis=-1)
        mixed = self._node("MatMul", [weights, value], prefix + "mixed")
        rows = self._node("Transpose", [mixed], prefix + "rows", perm=[0, 2, 1, 3])
        shape = np.array([1, -1, self._config.hidden_size], np.int64)
        return self._node("Reshape", [rows, self._constant(prefix + "shape", shape)], prefix + "attended")

    def _heads(self, hidden: str, prefix: str, *, order: list[int]) -> str:
        shape = np.array([1, -1, self._config.num_attention_heads, self._config.head_size], np.int64)
        inputs = [self._dense(hidden, prefix), self._constant(prefix + "shape", shape)]
        split = self._node("Reshape", inputs, prefix + "split")
        return self._node("Transpose", [split], prefix + "heads", perm=order)

    def _pool(self, hidden: str, pooling: Pooling) -> None:
        if pooling == "mean":
            axes = self._constant("token_axis", np.array([1], np.int64))
            self._node("ReduceMean", [hidden, axes], "pooled", keepdims=0)
        else:
            first = self._constant("first", np.array(0, np.int64))
            self._node("Gather", [hidden, first], "pooled", axis=1)

    def _dense(self, hidden: str, prefix: str) -> str:
        weight = self._constant(prefix + "weight", self._tensors[prefix + "weight"].T)
        product = self._node("MatMul", [hidden, weight], prefix + "product")
        return self._node("Add", [product, self._weight(prefix + "bias")], prefix + "sum")

    def _normalise(self, hidden: str, prefix: str) -> str:
        inputs = [hidden, self._weight(prefix + "weight"), self._weight(prefix + "bias")]
        return self._node(
            "LayerNormalization", inputs, prefix + "normal", axis=-1, epsilon=self._config.layer_norm_eps
        )

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._proto.node.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _weight(self, name: str) -> str:
        return self._constant(name, self._tensors[name])

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._proto.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name


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
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    count = (end - begin) // dtype.itemsize
    return np.frombuffer(data, dtype, count, start + begin).reshape(entry["shape"])
