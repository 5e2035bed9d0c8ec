"""``[helpdesk]`` of the care side's file: the reference desk beside the private link."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from assistant.tenant.care_app import CareAppConfig
from assistant.tenant.deployment import HostName
from assistant.tenant.toml_file import StrictModel


class HelpdeskSection(StrictModel):
    """Keys of ``[helpdesk]``; without it no desk is deployed."""

    host_name: HostName
    """Name of the desk's certificate. A private zone of the VPC leads it to the desk."""
    secret_arn: str = Field(
        pattern=r"^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:[A-Za-z0-9/_+=.@-]{1,512}$"
    )
    """Secret with ``tls_certificate`` (PEM, with its chain), ``tls_key`` and ``system_token``, which the
    assistant sends when it calls. It exists before the deployment and belongs to no stack."""


class HelpdeskCareApp(CareAppConfig):
    """The care side's file with the table of this option."""

    helpdesk: HelpdeskSection | None = None

    @model_validator(mode="after")
    def _needs_dev_and_its_own_vpc(self) -> Self:
        if self.helpdesk and (self.network.vpc or self.deployment.profile != "dev"):
            raise ValueError(
                '[helpdesk] is a reference, with simulated patients: it needs profile = "dev" and a VPC that '
                "the care side makes ([network] cidr)."
            )
        return self
