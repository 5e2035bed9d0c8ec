"""The tenant's secret that signs document links."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from assistant.adapters.secret_files import make_secret_file
from assistant.domain.errors import ConfigurationError
from assistant.settings.tenant import TenantConfig

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
