"""Documents of one tenant as files.

``<directory>/<2 hex>/<name>.json`` is the canonical document, ``<name>.<content hash>.parsed.json`` the
parsed text of one content. A file is written beside its place and renamed, so a reader sees the old or
the new one, never half of one. It is not fsynced: a document can be added again from its source, one
fsync a document would make a load of 16,000 minutes long on a laptop's disk, and a file that a power
cut damaged is found on reading (it does not parse) and said so."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from assistant.domain.clock import Clock
from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import ConfigurationError, DependencyError, DocumentInvalidError
from assistant.private_files import make_private_folder, make_secret_file, write_private
from assistant.settings.deployed_names import CLOSED, ON
from assistant.settings.tenant import TenantConfig

READABLE_NAME_CHARS = 100
"""A file name holds at most 255 bytes; the hash after the readable part keeps names apart."""

_PARSED = TypeAdapter(ParsedDocument)
_DIGEST = re.compile(r"-([0-9a-f]{32})(?:\..*\.parsed)?\.json$")


class FileDocumentStore:
    """A ``DocumentStore`` on a folder that belongs to one tenant."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, document: Document) -> None:
        path = self._document_path(document.document_id)
        content = orjson.dumps(document.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        await asyncio.to_thread(_write, path, content)

    async def get(self, document_id: str) -> Document | None:
        content = await asyncio.to_thread(_read, self._document_path(document_id))
        if content is None:
            return None
        try:
            return Document.model_validate_json(content)
        except ValidationError:
            raise DocumentInvalidError(
                f"{document_id}: the stored copy is damaged; add the document again."
            ) from None

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        content = orjson.dumps(asdict(parsed))
        await asyncio.to_thread(_write, self._parsed_path(document_id, content_hash), content)

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        content = await asyncio.to_thread(_read, self._parsed_path(document_id, content_hash))
        if content is None:
            return None
        try:
            return _PARSED.validate_json(content)
        except ValidationError:
            raise DocumentInvalidError(
                f"{document_id}: the stored text is damaged; add the document again."
            ) from None

    async def delete(self, document_id: str) -> None:
        await asyncio.to_thread(_delete, self._document_path(document_id))

    def _document_path(self, document_id: str) -> Path:
        digest = hashlib.sha256(document_id.encode()).hexdigest()
        readable = quote(document_id, safe="")[:READABLE_NAME_CHARS]
        return self._directory / digest[:2] / f"{readable}-{digest[:32]}.json"

    def _parsed_path(self, document_id: str, content_hash: str) -> Path:
        return self._document_path(document_id).with_suffix(f".{quote(content_hash, safe='')}.parsed.json")


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{_digest_of(path)}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        try:
            write_private(beside, content)
        except FileNotFoundError:
            make_private_folder(path.parent)
            write_private(beside, content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise DependencyError(f"The document store cannot write: {error.strerror}.") from error


def _digest_of(path: Path) -> str:
    """Return the digest of the document's id, which stands in the names of all its files."""
    found = _DIGEST.search(path.name)
    assert found is not None, path  # noqa: S101 - as _document_path makes it
    return found[1]


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DependencyError(f"The document store cannot read: {error.strerror}.") from error


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        # The name ends with a hash and quote() leaves no wildcard: the pattern names this document alone.
        for parsed in path.parent.glob(f"{path.stem}.*.parsed.json"):
            parsed.unlink(missing_ok=True)
        for begun in path.parent.glob(f".{_digest_of(path)}.*.tmp"):  # by a writer that was killed
            begun.unlink(missing_ok=True)
    except OSError as error:
        raise DependencyError(f"The document store cannot delete: {error.strerror}.") from error


# The power switch of a tenant's model endpoints as a file.


_REFRESH_S = 2.0
_MAX_BYTES = 64
_log = structlog.get_logger(__name__)


class FilePower:
    """``EndpointPower`` by the file ``path``: a word of ``power_words``; on where there is no file.

    The file is read at most every 2 s. Any other word is logged and means on; while the file cannot be
    read, the last state stands.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._paused = False
        self._read_at_s: float | None = None

    async def is_paused(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._read_at_s is None or now_s - self._read_at_s >= _REFRESH_S:
            self._read_at_s = now_s
            self._read()
        return self._paused

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                word = file.read(_MAX_BYTES).strip()
        except FileNotFoundError:
            word = ON.encode()
        except OSError as error:
            _log.warning("power_not_read", reason=type(error).__name__)
            return
        said = word.decode("utf-8", "replace")
        if said != ON and said not in CLOSED:
            _log.warning("power_not_understood")
        self._paused = said in CLOSED


# The tenant's secret that signs document links.


_LENGTH_BYTES = 32
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")


def link_secret(tenant: TenantConfig, *, tenants_dir: Path, state_dir: Path) -> bytes:
    """Return the secret that ``secrets.document_links`` names.

    ``state:NAME`` is STATE/secrets/<tenant>/NAME, made on first use and readable by its owner only.
    ``file:PATH`` is relative to the tenant file and must be there. ``kms:NAME`` is read by
    ``adapters.aws.kms_secret``. Raises ConfigurationError naming file and key.
    """
    scheme, _, rest = tenant.secrets.document_links.partition(":")
    where = f"{tenants_dir / tenant.name}.toml: secrets.document_links"
    if scheme == "state" and _NAME.fullmatch(rest):
        path = state_dir / "secrets" / tenant.name / rest
        make_secret_file(path, content=lambda: secrets.token_hex(_LENGTH_BYTES).encode())
    elif scheme == "file" and rest:
        path = tenants_dir / rest
    else:
        raise ConfigurationError(f"{where} must be state:NAME (a-z, 0-9, -), file:PATH or kms:NAME.")
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"{where}: {path} cannot be read: {error.strerror}.") from None
    if len(secret) < _LENGTH_BYTES:
        raise ConfigurationError(f"{where}: {path} holds fewer than {_LENGTH_BYTES} bytes.")
    return secret
