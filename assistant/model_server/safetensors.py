"""Reading of the safetensors format (https://huggingface.co/docs/safetensors, "Format")."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson

from assistant.domain.errors import ConfigurationError

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
