"""The issuer's public keys in a parameter of SSM, for a network in which the issuer is out of reach."""

from __future__ import annotations

from typing import Any

from assistant.aws.aws_calls import aws_call
from assistant.domain.errors import DependencyError

_WHAT = "The parameter of the issuer's keys"
_LIMIT_S = 5.0
"""A caller with a key id that nobody knows waits for it."""


class ParameterKeySource:
    """A ``KeySource`` of the parameter ``name``, whose value is a key set (JWKS, JSON).

    Versions of a parameter only grow. One that is lower than the last one seen is a copy from before (the
    parameter was deleted and made again, or restored) and may lack keys, or hold keys that were taken out:
    it is not used. Putting the key set once more under the same name, until its version is higher, or
    starting anew ends that.
    """

    def __init__(self, client: Any, *, name: str) -> None:
        self._client = client
        self._name = name
        self._version = 0

    async def fetch(self) -> bytes:
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            answer = await self._client.get_parameter(Name=self._name)
        try:
            version, value = int(answer["Parameter"]["Version"]), str(answer["Parameter"]["Value"])
        except (KeyError, TypeError, ValueError):
            raise DependencyError(f"{_WHAT} could not be read: no parameter came.") from None
        if version < self._version:
            raise DependencyError(f"{_WHAT} went back from version {self._version} to {version}.")
        self._version = version
        return value.encode()
