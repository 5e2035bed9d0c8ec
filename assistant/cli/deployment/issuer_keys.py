"""The public keys of a tenant's issuer, by OpenID Connect Discovery 1.0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import httpx

from assistant.domain.errors import DeploymentError

_TIMEOUT_S = 15.0
_WELL_KNOWN = "/.well-known/openid-configuration"


def published_keys(issuer: str) -> str:
    """Return the key set (JWKS) that the issuer publishes, as JSON. Raises DeploymentError in a sentence."""
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        found = _json(client, issuer.rstrip("/") + _WELL_KNOWN)
        if found.get("issuer") != issuer:
            raise DeploymentError(
                f"{issuer} calls itself {found.get('issuer')}: identity.issuer must be that."
            )
        address = str(found.get("jwks_uri", ""))
        if not address.startswith(f"{httpx.URL(issuer).scheme}://"):
            raise DeploymentError(
                f"{issuer} names its keys at {address!r}, which is no address like its own."
            )
        keys = _json(client, address)
    if not keys.get("keys"):
        raise DeploymentError(f"{address} holds no key.")
    return json.dumps(keys)


def _json(client: httpx.Client, address: str) -> Mapping[str, Any]:
    try:
        answer = client.get(address).raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DeploymentError(f"{address} cannot be read ({type(error).__name__}).") from None
    if not isinstance(answer, dict):
        raise DeploymentError(f"{address} holds no JSON object.")
    return cast("Mapping[str, Any]", answer)
