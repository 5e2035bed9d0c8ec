"""How the probe judges the service's certificate, and which one it shows."""

from __future__ import annotations

import ssl
import tempfile

import httpx

from assistant.aws.clients import aws_call, open_client
from assistant.domain.errors import ConfigurationError
from assistant.settings.functions import ProbeSettings

_LIMIT_S = 15.0


async def open_tls(settings: ProbeSettings) -> ssl.SSLContext:
    """Return TLS as the settings ask for it. Raises ConfigurationError, DependencyError."""
    try:
        context = _judging(settings.certificate_authority)
        if settings.client_certificate_parameter is not None:
            _show(context, await _client_certificate(settings, settings.client_certificate_parameter))
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"A certificate of the probe cannot be read ({error.reason}): give certificates and key in PEM."
        ) from None
    return context


def _judging(authority: str | None) -> ssl.SSLContext:
    """Without an authority of the company's own, the public ones do, as httpx ships them."""
    if authority is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cadata=authority)


async def _client_certificate(settings: ProbeSettings, name: str) -> str:
    async with (
        open_client("ssm", region=settings.region, endpoint_url=settings.aws_endpoint_url) as ssm,
        aws_call("The parameter of the client certificate", limit_s=_LIMIT_S),
    ):
        answer = await ssm.get_parameter(Name=name, WithDecryption=True)
    return str(answer["Parameter"]["Value"])


def _show(context: ssl.SSLContext, pem: str) -> None:
    """Python reads a private key from files alone: this one is the process's own, and gone at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
