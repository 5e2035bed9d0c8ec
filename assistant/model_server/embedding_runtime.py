"""OpenVINO as the runtime of embedding graphs.

Measured on 2 cores with AVX-512 BF16 (tokens a second of both cores' time; cosine to sentence-transformers):
onnxruntime fp32 7,500, exact; OpenVINO fp32 8,300, exact; OpenVINO bf16 14,300, ≥ 0.9999; OpenVINO int8
18,700, ≥ 0.992. The cores' own limit in fp32 is 9,400.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, cast

Precision = Literal["bfloat16", "float32"]
_SHAPES_KEPT = 1024
"""Compiled kernels that are kept, one a layer kind and input length: without a bound they take 350 MiB."""


def load_graph(path: Path, *, threads: int, precision: Precision) -> Any:
    """Return an openvino.CompiledModel that runs ``threads`` inputs at once, a thread each.

    ``bfloat16`` rounds the operands of matrix products on processors that multiply in that type; on others
    the graph runs in float32, as no processor gains by imitating it.
    """
    # Importing the library loads a client that can report usage to its maker, unless there is none.
    sys.modules.setdefault("openvino_telemetry", cast("Any", None))
    import openvino

    core = openvino.Core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" and native else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # the machine's cores are shared with other processes
        "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT,
    }
    return core.compile_model(str(path), "CPU", settings)
