"""Secrets of Secrets Manager: the credentials of live systems, which their owners rotate."""

from __future__ import annotations

from typing import Any

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.domain.errors import ConfigurationError

_LIMIT_S = 5.0


async def read_secret(client: Any, *, name: str) -> bytes:
    """Return the current value of a secret, without white space around it.

    Raises ConfigurationError when it is absent, refused or empty, DependencyError when the service does not
    respond.
    """
    try:
        async with aws_call("Secrets Manager", limit_s=_LIMIT_S):
            response = await client.get_secret_value(SecretId=name)
    except ServiceRefusedError as error:
        if error.passes:
            raise
        raise ConfigurationError(
            f"The secret {name} cannot be read ({error.reason}). It must exist with a value, and this "
            "process must be allowed to read it (secretsmanager:GetSecretValue)."
        ) from None
    value = response.get("SecretString") or response.get("SecretBinary") or b""
    secret = value.encode() if isinstance(value, str) else bytes(value)
    if not secret.strip():
        raise ConfigurationError(f"The secret {name} is empty. Put a value.")
    return secret.strip()
