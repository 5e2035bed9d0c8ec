"""The local issuer's ES256 key: made once under the state folder, readable by its owner only."""

from __future__ import annotations

from pathlib import Path

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from assistant.domain.errors import ConfigurationError
from assistant.private_files import make_secret_file

ALGORITHM = "ES256"


def load_or_create_signing_key(state_dir: Path) -> ECKey:
    """Return the key of ``STATE/issuer/signing-key.json``. Raises ConfigurationError when it is broken.

    Two processes that make it at once end with the same key.
    """
    path = state_dir / "issuer" / "signing-key.json"
    make_secret_file(path, content=_new_key)
    try:
        key = ECKey.import_key(orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, JoseError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: not a private key ({type(error).__name__}); delete it and sign in again."
        ) from None
    if not key.is_private or key.curve_name != "P-256":
        raise ConfigurationError(f"{path}: not a private P-256 key; delete it and sign in again.")
    return key


def public_key_set(key: ECKey) -> dict[str, list[dict[str, object]]]:
    """Return the JWKS document of the key."""
    return {"keys": [{**key.as_dict(private=False), "use": "sig", "alg": ALGORITHM}]}


def _new_key() -> bytes:
    return orjson.dumps(ECKey.generate_key("P-256", auto_kid=True).as_dict(private=True))
