"""Writes the file of kept vectors that ``assistant.stores.index.kept_vectors`` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from assistant.stores.index.kept_vectors import KEY_BYTES, key_of

_LARGEST = 127


def write_kept_vectors(path: Path, vectors: Mapping[str, Sequence[float]], *, model_digest: str) -> None:
    """Write the vectors by text, shape (texts, dimensions). The same arguments give the same bytes."""
    texts = {key_of(text): text for text in vectors}
    keys = sorted(texts)
    exact = np.asarray([vectors[texts[key]] for key in keys], np.float32)
    scales = np.abs(exact).max(axis=1) / _LARGEST
    content = {
        "model_digest": np.asarray(model_digest),
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
        "scales": scales,
        "values": np.rint(exact / scales[:, None]).astype(np.int8),
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **content)
