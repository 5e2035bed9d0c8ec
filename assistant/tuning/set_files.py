"""Writes what a model is tuned on as a folder of files with a data card: versioned, never changed.

Training sets and embedding pairs have one form: ``KIND.SPLIT.jsonl``, a manifest with the files' hashes, and
a card by the questions of Gebru et al., "Datasheets for datasets" (2021).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from assistant.domain.errors import ConflictError
from assistant.private_files import make_private_folder, write_private

CARD = "card.md"
MANIFEST = "manifest.json"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """What a reader must know of a set."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    """A row for each split."""
    sections: Mapping[str, str]
    """Text by heading."""

    def markdown(self, version: str) -> str:
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        parts = [
            f"# {self.title}",
            f"Version `{version}` (SHA-256 of {MANIFEST}). This folder is never changed; a new export is a "
            "new folder.",
            "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows),
            *(f"## {heading}\n{text}" for heading, text in self.sections.items()),
        ]
        return "\n\n".join(parts) + "\n"


def write_folder(
    files: Mapping[str, bytes], folder: Path, *, tenant: str, manifest: Mapping[str, Any], card: DataCard
) -> Path:
    """Write a set's files, its manifest with their hashes and its card; return the new folder TENANT-VERSION.

    The same content is the same folder, which is left as it is. A folder appears whole or not at all. Raises
    ConflictError when it exists with other content, OSError.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    about = {"schema_version": 1, "tenant": tenant, **manifest, "files": hashes}
    raw = orjson.dumps(about, option=_OPTIONS) + b"\n"
    version = hashlib.sha256(raw).hexdigest()
    target = folder / f"{tenant}-{version[:12]}"
    if target.exists():
        if (target / MANIFEST).read_bytes() != raw:
            raise ConflictError(f"{target} has another manifest: it was changed. Move it away and retry.")
        return target
    making = folder / f".{target.name}.{os.getpid()}"
    make_private_folder(making)
    try:
        for name, content in {**files, MANIFEST: raw, CARD: card.markdown(version).encode()}.items():
            write_private(making / name, content)
        making.rename(target)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return target


def as_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return JSON lines with sorted keys."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)


def counts_told(counts: Mapping[str, int]) -> str:
    """Return the counts that are not 0, by name, for a data card."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"
