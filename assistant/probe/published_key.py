"""``python -m assistant.probe.published_key < public-key.der``: the probe's key as an entry of a key set.

KMS gives the public half in DER: ``aws kms get-public-key --query PublicKey --output text | base64 -d``.
"""

from __future__ import annotations

import sys

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from assistant.domain.errors import ConfigurationError
from assistant.service.identity import BOUND_SUBJECT
from assistant.tenant.deployed_names import PROBE_SUBJECT


def published_key(der: bytes) -> dict[str, object]:
    """Return the JWK of a public P-256 key, bound to the probe. Raises ConfigurationError."""
    try:
        key = ECKey.import_key(der)
    except (JoseError, ValueError):
        raise ConfigurationError(
            "That is no public key in DER; take it from aws kms get-public-key."
        ) from None
    if key.is_private or key.curve_name != "P-256":
        raise ConfigurationError("The probe's key must be the public half of an ECC_NIST_P256 key.")
    members: dict[str, object] = dict(key.as_dict(private=False))
    return members | {"kid": PROBE_SUBJECT, "use": "sig", "alg": "ES256", BOUND_SUBJECT: PROBE_SUBJECT}


def main() -> None:
    try:
        sys.stdout.write(orjson.dumps(published_key(sys.stdin.buffer.read())).decode() + "\n")
    except ConfigurationError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
