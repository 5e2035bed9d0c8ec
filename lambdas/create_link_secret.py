"""Creates the key of document links: a custom resource of CloudFormation."""

from __future__ import annotations

from assistant.process.aws import create_link_secret
from assistant.process.settings import LinkSecretSettings
from assistant.service.function import CustomResourceEntry, ResourceRequest
from assistant.service.opened import LinkSecret, open_link_secret
from assistant.tenant.deployed_names import (
    FEEDBACK_SECRET_PURPOSE,
    LINK_SECRET_PURPOSE,
    LIVE_READS_SECRET_PURPOSE,
)


async def run(services: LinkSecret, request: ResourceRequest) -> str:
    """Create the secrets once, and return its parameter's name.

    A delete leaves the secret: without it every link that was given out would stop working.
    """
    settings, name = services.settings, services.settings.parameter
    if not request.is_delete:
        wanted = {
            LINK_SECRET_PURPOSE: name,
            FEEDBACK_SECRET_PURPOSE: settings.feedback_parameter,
            LIVE_READS_SECRET_PURPOSE: settings.live_reads_parameter,
        }
        for purpose, parameter in wanted.items():
            if parameter is not None:
                await create_link_secret(
                    ssm=services.ssm,
                    kms=services.kms,
                    name=parameter,
                    tenant=settings.tenant,
                    key_id=settings.key_id,
                    purpose=purpose,
                )
    return name


handle = CustomResourceEntry(LinkSecretSettings, open_link_secret, run)
