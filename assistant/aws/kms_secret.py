"""The secret of a tenant's document links: a data key that KMS encrypted, kept in a parameter of SSM.

Only who may decrypt with the tenant's key, and says for which tenant and purpose, gets the secret: the
encryption context is part of what KMS checks, and stands in its audit trail. Nobody ever sees the secret
when it is made.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from assistant.aws.aws_calls import ServiceRefusedError, aws_call
from assistant.domain.errors import ConfigurationError
from assistant.settings.deployed_names import LINK_SECRET_PURPOSE, link_secret_context

_LENGTH_BYTES = 32
_LIMIT_S = 30.0


async def create_link_secret(*, ssm: Any, kms: Any, name: str, tenant: str, key_id: str) -> None:
    """Make the parameter ``name`` unless it is there. ``key_id`` is the id, alias or ARN of a KMS key.

    Raises DependencyError.
    """
    async with aws_call("KMS", limit_s=_LIMIT_S):
        made = await kms.generate_data_key_without_plaintext(
            KeyId=key_id, NumberOfBytes=_LENGTH_BYTES, EncryptionContext=link_secret_context(tenant)
        )
    value = base64.b64encode(made["CiphertextBlob"]).decode()
    try:
        async with aws_call("The parameter store", limit_s=_LIMIT_S):
            await ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=False)
    except ServiceRefusedError as error:
        if error.reason != "ParameterAlreadyExists":
            raise


async def kms_link_secret(*, ssm: Any, kms: Any, name: str, tenant: str) -> bytes:
    """Return the secret that the parameter ``name`` holds for this tenant, 32 bytes.

    Raises ConfigurationError when parameter, key or context are not the right ones, and DependencyError
    when SSM or KMS does not answer.
    """
    ciphertext = await _ciphertext(ssm, name)
    try:
        async with aws_call("KMS", limit_s=_LIMIT_S):
            answer = await kms.decrypt(
                CiphertextBlob=ciphertext, EncryptionContext=link_secret_context(tenant)
            )
    except ServiceRefusedError as error:
        if error.passes:
            raise
        raise ConfigurationError(
            f"KMS does not decrypt the parameter {name} ({error.reason}). It must have been made for the "
            f"tenant {tenant} and the purpose {LINK_SECRET_PURPOSE}, with a key that is enabled and that "
            "this process may use (kms:Decrypt). If it was made for another, delete it and make it anew."
        ) from None
    secret = bytes(answer.get("Plaintext", b""))
    if len(secret) < _LENGTH_BYTES:
        raise ConfigurationError(
            f"The parameter {name} holds a data key of fewer than {_LENGTH_BYTES} bytes; make it anew."
        )
    return secret


async def _ciphertext(ssm: Any, name: str) -> bytes:
    try:
        async with aws_call("The parameter store", limit_s=_LIMIT_S):
            answer = await ssm.get_parameter(Name=name)
        return base64.b64decode(answer["Parameter"]["Value"], validate=True)
    except ServiceRefusedError as error:
        if error.passes:
            raise
        raise ConfigurationError(
            f"The parameter {name} cannot be read ({error.reason}). It must be there, and this process must "
            "be allowed to read it (ssm:GetParameter)."
        ) from None
    except (KeyError, binascii.Error):
        raise ConfigurationError(
            f"The parameter {name} holds no ciphertext in base64; delete it and make it anew."
        ) from None
