"""Secrets of Secrets Manager: the credentials of live systems, which their owners rotate."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.domain.errors import ConfigurationError

_LIMIT_S = 5.0


class StoredSecret:
    """One secret by its name, read anew with each call."""

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self.put_at: datetime | None = None
        """When the value that was read last was put; None before the first read."""

    async def __call__(self) -> bytes:
        """Return the current value, without white space around it.

        Raises ConfigurationError when it is absent, refused or empty, DependencyError when the service does
        not respond.
        """
        try:
            async with aws_call("Secrets Manager", limit_s=_LIMIT_S):
                response = await self._client.get_secret_value(SecretId=self._name)
        except ServiceRefusedError as error:
            if error.passes:
                raise
            raise ConfigurationError(
                f"The secret {self._name} cannot be read ({error.reason}). It must exist with a value, and "
                "this process must be allowed to read it (secretsmanager:GetSecretValue)."
            ) from None
        value = response.get("SecretString") or response.get("SecretBinary") or b""
        secret = value.encode() if isinstance(value, str) else bytes(value)
        if not secret.strip():
            raise ConfigurationError(f"The secret {self._name} is empty. Put a value.")
        self.put_at = response.get("CreatedDate")
        return secret.strip()
