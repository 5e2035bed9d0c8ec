"""The tenant's secret that signs document links."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.settings import TenantConfig

_LENGTH_BYTES = 32
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")


def link_secret(tenant: TenantConfig, *, tenants_dir: Path, state_dir: Path) -> bytes:
    """Return the secret that ``secrets.document_links`` names.

    ``state:NAME`` is STATE/secrets/<tenant>/NAME, made on first use and readable by its owner only.
    ``file:PATH`` is relative to the tenant file and must be there. Raises ConfigurationError naming file
    and key.
    """
    scheme, _, rest = tenant.secrets.document_links.partition(":")
    where = f"{tenants_dir / tenant.name}.toml: secrets.document_links"
    if scheme == "state" and _NAME.fullmatch(rest):
        path = state_dir / "secrets" / tenant.name / rest
        _make_if_absent(path)
    elif scheme == "file" and rest:
        path = tenants_dir / rest
    else:
        raise ConfigurationError(f"{where} must be state:NAME (a-z, 0-9, -) or file:PATH.")
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"{where}: {path} cannot be read: {error.strerror}.") from None
    if len(secret) < _LENGTH_BYTES:
        raise ConfigurationError(f"{where}: {path} holds fewer than {_LENGTH_BYTES} bytes.")
    return secret


def _make_if_absent(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(_LENGTH_BYTES).encode())
    try:
        os.link(draft, path)  # fails, unlike a rename, when another process was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
