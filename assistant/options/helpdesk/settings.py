"""Settings of the helpdesk's own process, ``python -m assistant.options.helpdesk``."""

from __future__ import annotations

from pydantic import Field, HttpUrl
from pydantic_settings import SettingsConfigDict

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import ProcessSettings

CONTEXT_KEY_ID = "helpdesk"
"""`kid` of the key that signs contexts: the key set of contexts (an SSM parameter of the assistant) has its
public half under this name."""
# Fields that have a default, so that the settings can be made without them, and that must have a value.
_NEEDED = (
    "issuer",
    "jwks_parameter",
    "care_jwks_parameter",
    "signing_key_id",
    "tls_certificate",
    "tls_key",
    "system_token",
    "table",
)


class HelpdeskSettings(ProcessSettings):
    """The agents' desk of a closed VPC, with the sample order system behind it."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_HELPDESK_")

    host: str = "0.0.0.0"  # noqa: S104 : the task's own address, behind a balancer
    """Address to listen on."""
    port: int = Field(default=8443, ge=0, le=65535)
    """Port to listen on."""
    tenant: str
    """Tenant of the agents."""
    service_url: HttpUrl
    """Base URL of the assistant, for the browser and for this process."""
    page_url: HttpUrl
    """Own address, as browsers know it: the origin that holds the panel, and where a sign-in ends."""
    issuer: str = ""
    """OpenID issuer of the agents."""
    audience: str = "assistant"
    """`aud` of their access tokens."""
    client_id: str = "assistant-helpdesk"
    """Of the desk's page at the issuer."""
    jwks_parameter: str = ""
    """SSM parameter with the issuer's keys, as a closed VPC reaches no issuer."""
    care_issuer: str
    """`iss` of the contexts that this process signs."""
    care_audience: str = "assistant-context"
    """`aud` of the contexts."""
    care_jwks_parameter: str = ""
    """SSM parameter with the keys of contexts, by which those of replies are verified."""
    signing_key_id: str = ""
    """KMS key (ARN), ECC_NIST_P256, that signs the contexts."""
    tls_certificate: str = ""
    """Certificate chain (PEM)."""
    tls_key: str = ""
    """Private key of the certificate (PEM)."""
    system_token: str = ""
    """Bearer token that the assistant sends, for orders and replies."""
    table: str = ""
    """DynamoDB table of the chats."""
    region: str = "us-east-1"
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Base URL of AWS services, for an emulator."""
    certificate_authority: str | None = None
    """Root certificate (PEM) of the assistant's address; the public ones when absent."""

    def require_whole(self) -> None:
        """Raise ConfigurationError where what makes it fit to stand outside the demo is missing."""
        missing = [self.variable(name) for name in _NEEDED if not getattr(self, name)]
        if self.page_url.scheme != "https":
            missing.append(f"https in {self.variable('page_url')}")
        if missing:
            raise ConfigurationError(
                "The reference helpdesk starts outside the demo with an issuer and TLS alone. Missing: "
                f"{', '.join(missing)}."
            )
