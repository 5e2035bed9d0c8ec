"""OpenVINO as the runtime of embedding graphs.

Measured on 2 cores with AVX-512 BF16 (tokens a second of both cores' time; cosine to sentence-transformers):
onnxruntime fp32 7,500, exact; OpenVINO fp32 8,300, exact; OpenVINO bf16 14,300, ≥ 0.9999; OpenVINO int8
18,700, ≥ 0.992. The cores' own limit in fp32 is 9,400.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from assistant.domain.errors import ConfigurationError

Precision = Literal["bfloat16", "float32"]
Pooling = Literal["mean", "cls"]
Floats = npt.NDArray[np.float32]
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
"""Inputs that an exported encoder may have; ours has the first alone."""
_SHAPES_KEPT = 1024
"""Compiled kernels that are kept, one a layer kind and input length: without a bound they take 350 MiB."""
_SMALLEST_NORM = 1e-12


def of_unit_length(vectors: Floats) -> Floats:
    """Return vectors, shape (n, dimensions), of length 1; a zero vector stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, _SMALLEST_NORM)


def load_graph(path: Path, *, threads: int, precision: Precision) -> Any:
    """Return an openvino.CompiledModel that runs ``threads`` inputs at once, a thread each.

    ``bfloat16`` rounds the operands of matrix products on processors that multiply in that type; on others
    the graph runs in float32, as no processor gains by imitating it.
    """
    core = _core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" and native else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # the machine's cores are shared with other processes
        "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT,
    }
    return core.compile_model(str(path), "CPU", settings)


class PassageRunner:
    """Embeds one passage at a time with a compiled graph: our own, or an exported encoder with its pooling.

    An exported encoder gives a vector a token, (1, tokens, hidden), and is pooled here; one that gives
    (1, hidden) has pooled already.
    """

    def __init__(self, model: Any, *, pooling: Pooling) -> None:
        self._request = model.create_infer_request()
        self._inputs = frozenset(str(each.get_any_name()) for each in model.inputs)
        self._output = _output_place(model)
        self._pooling = pooling

    def embed(self, ids: Sequence[int]) -> Floats:
        """Return the pooled vector, not normalised, shape (hidden,)."""
        tokens = np.asarray([ids], np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
            "position_ids": np.arange(tokens.shape[1], dtype=np.int64)[None],
        }
        self._request.infer({name: given[name] for name in self._inputs})
        found = self._request.get_output_tensor(self._output).data
        if found.ndim == 2:
            return found[0].copy()
        return (found[0].mean(axis=0) if self._pooling == "mean" else found[0][0]).astype(np.float32)


def graph_dimensions(path: Path) -> int:
    """Return the length of the graph's vectors.

    Raises ConfigurationError when the file is no graph of an encoder that can be run here.
    """
    try:
        model = _core().read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise ConfigurationError(f"{path}: the ONNX graph cannot be read: {reason}") from None
    names = {str(each.get_any_name()) for each in model.inputs}
    if "input_ids" not in names or not names <= _INPUTS:
        raise ConfigurationError(
            f"{path}: its inputs are {', '.join(sorted(names))}; an encoder with input_ids and at most "
            f"{', '.join(sorted(_INPUTS - {'input_ids'}))} can be run here."
        )
    last = model.outputs[_output_place(model)].get_partial_shape()[-1]
    if last.is_dynamic:
        raise ConfigurationError(
            f"{path}: the graph does not say how long its vectors are. Export it with a fixed hidden size."
        )
    return int(last.get_length())


def _output_place(model: Any) -> int:
    """Return which output is the vector: one that is pooled, (1, hidden), else the first."""
    ranks = [each.get_partial_shape().rank for each in model.outputs]
    return next((place for place, rank in enumerate(ranks) if rank.is_static and rank.get_length() == 2), 0)


def _core() -> Any:
    # Importing the library loads a client that can report usage to its maker, unless there is none.
    sys.modules.setdefault("openvino_telemetry", cast("Any", None))
    import openvino

    return openvino.Core()
