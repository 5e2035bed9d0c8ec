"""Settings of the probe, and the names by which its figures are emitted and alarmed."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assistant.settings.process import ProcessSettings
from assistant.settings.served import HttpUrl

PROBE_SUBJECT = "probe"
"""``sub`` of its tokens and id of its key in the tenant's key set, which binds the one to the other."""

PROBE_DIMENSION = "Tenant"
PROBE_FAILED = "ProbeFailed"
"""1 when the question was not answered through the private link, else 0."""
PROBE_DEGRADED = "ProbeDegraded"
"""1 when sources came, but no text of the model."""
PROBE_PAUSED = "ProbePaused"
"""1 when the tenant's endpoints were paused: nothing is wrong."""
PROBE_DURATION = "ProbeDuration"
"""Milliseconds from the first packet to the end of the answer."""


class ProbeSettings(ProcessSettings):
    """The function that asks one question through the private link (``lambdas/ask_probe``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_PROBE_")

    service_url: HttpUrl
    """Base URL of the service, by the name that its certificate carries."""
    tenant: str
    """Whose assistant is asked."""
    question: str
    """What is asked."""
    issuer: str
    """`iss` that the service accepts."""
    audience: str = "assistant"
    """`aud` that the service accepts."""
    signing_key_id: str
    """KMS key (ARN), ECC_NIST_P256 for signing, whose public half is in the tenant's key set."""
    region: str = "us-east-1"
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Of KMS and SSM, other than AWS's own: an emulator."""
    certificate_authority: str | None = None
    """Root certificate (PEM) that the service's is judged by, instead of the public ones."""
    client_certificate_parameter: str | None = None
    """SSM SecureString with a client certificate and its private key (PEM), where one is asked for."""
    deadline_s: float = Field(default=50.0, gt=0, le=100.0)
    """For all of a probe."""
