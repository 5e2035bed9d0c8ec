"""Vectors of known texts, kept in a file beside the documents, so that a new state folder does not embed them
again.

The file is a NumPy archive without pickle: the digest of the embedding model, and per text the first 16 bytes
of its SHA-256, its vector in 8 bits a number, and that vector's scale. In 128 bits no two texts share a key
by chance, and nobody can find another text for a key of the file (2^128 tries).

8 bits: the shop's 4,549 texts take 1.8 MB, in float16 3.5 MB. Their lowest cosine with the model's own
vectors is 0.99993 in bfloat16 and 0.99992 in float32. The lowest between those two is 0.99996 (of 700 texts).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from assistant.domain.clock import Deadline
from assistant.domain.documents import IndexModel
from assistant.domain.errors import ConfigurationError
from assistant.stores.ports import TextEmbedder

KEY_BYTES = 16
_FIELDS = ("model_digest", "keys", "scales", "values")
"""Names of the arrays in the archive. A vector is its row of ``values`` times its number in ``scales``."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeptVectors:
    """The vectors of a file, by text."""

    model_digest: str
    """SHA-256 (hex) of the weights that made them."""
    places: Mapping[bytes, int]
    """Row of a text in ``scales`` and ``values``, by the text's key (``key_of``)."""
    scales: npt.NDArray[np.float32]
    """Shape (texts,)."""
    values: npt.NDArray[np.int8]
    """Shape (texts, dimensions)."""

    @property
    def dimensions(self) -> int:
        return self.values.shape[1]

    def vector(self, text: str) -> list[float] | None:
        """Return the unit-length vector of a text, shape (dimensions,); None for an unknown text."""
        place = self.places.get(key_of(text))
        if place is None:
            return None
        row = self.values[place].astype(np.float32) * self.scales[place]
        return (row / np.linalg.norm(row)).tolist()


def key_of(text: str) -> bytes:
    """Return the key of a text in the file."""
    return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]


def read_kept_vectors(path: Path) -> KeptVectors:
    """Return the vectors of a file. Raises FileNotFoundError, and ConfigurationError for a damaged file."""
    try:
        arrays = _arrays(path)
        places = _places(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ConfigurationError(
            f"{path}: the file of kept vectors is damaged ({error}). Fetch it again, or delete it: then the "
            "texts are embedded again."
        ) from None
    return KeptVectors(str(arrays["model_digest"]), places, arrays["scales"], arrays["values"])


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the archive by name. Raises KeyError where one is missing, ValueError for other
    files."""
    # From memory: given a path, np.load leaves a broken file open.
    opened = np.load(BytesIO(path.read_bytes()), allow_pickle=False)
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise ValueError("it is no archive")  # noqa: TRY004 (the content is wrong, not our argument)
    with opened:
        return {name: opened[name] for name in _FIELDS}


def _places(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[bytes, int]:
    """Return the row of each key. Raises ValueError when shapes or types of the arrays do not fit each other,
    a vector is zero, or a key is there twice."""
    digest, keys, scales, values = (arrays[name] for name in _FIELDS)
    count = len(keys) if keys.ndim else 0
    # Shape and type of each array, in the order of _FIELDS; "U": a text of any length.
    wanted = (((), "U"), ((count, KEY_BYTES), "u1"), ((count,), "f4"), ((count, *values.shape[-1:]), "i1"))
    for name, array, (shape, kind) in zip(_FIELDS, (digest, keys, scales, values), wanted, strict=True):
        if array.shape != shape or kind not in (array.dtype.kind, array.dtype.str[1:]):
            raise ValueError(f"{name} has the shape {array.shape} of {array.dtype}")
    if not (np.isfinite(scales).all() and (scales > 0).all() and values.any(axis=1).all()):
        raise ValueError("a vector has no length")
    places = {key.tobytes(): place for place, key in enumerate(keys)}
    if len(places) < count:
        raise ValueError("two vectors have the same key")
    return places


class KeptVectorsEmbedder:
    """A ``TextEmbedder`` that takes the vectors of known texts from a file; the embedder ``rest`` makes the
    others."""

    def __init__(self, kept: KeptVectors, rest: TextEmbedder) -> None:
        self._kept = kept
        self._rest = rest

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector a text, in order. Raises as the other embedder, which is not called
        when all texts are known."""
        known = [self._kept.vector(text) for text in texts]
        unknown = [text for text, vector in zip(texts, known, strict=True) if vector is None]
        made: Iterable[list[float]] = await self._rest.embed(unknown, deadline=deadline) if unknown else ()
        rest = iter(made)  # in the order of ``unknown``
        return [next(rest) if vector is None else vector for vector in known]


def with_kept_vectors(embedder: TextEmbedder, path: Path, *, model: IndexModel) -> TextEmbedder:
    """Return an embedder that uses the vectors of the file ``path`` and asks ``embedder`` for other texts.
    Where there is no such file, or its vectors are of another model than ``model``, log it and return
    ``embedder``.

    Raises ConfigurationError for a damaged file.
    """
    try:
        kept = read_kept_vectors(path)
    except FileNotFoundError:
        _log.warning("kept_vectors_not_used", file=str(path), reason="There is no such file.")
        return embedder
    if (kept.model_digest, kept.dimensions) != (model.digest, model.dimensions):
        of = f"They are of the model {kept.model_digest:.12}, with {kept.dimensions} dimensions."
        _log.warning("kept_vectors_not_used", file=str(path), reason=of, model=model.name)
        return embedder
    return KeptVectorsEmbedder(kept, embedder)
