"""Creates the key of document links: a custom resource of CloudFormation."""

from __future__ import annotations

from assistant.aws.lambda_entry import CustomResourceEntry, ResourceRequest
from assistant.aws.parameters import create_link_secret
from assistant.settings.deployed_names import FEEDBACK_SECRET_PURPOSE
from assistant.settings.functions import LinkSecretSettings
from assistant.wiring.services import LinkSecret, open_link_secret


async def run(services: LinkSecret, request: ResourceRequest) -> str:
    """Create the secrets once, and return its parameter's name.

    A delete leaves the secret: without it every link that was given out would stop working.
    """
    settings, name = services.settings, services.settings.parameter
    if not request.is_delete:
        place = {"name": name, "tenant": settings.tenant, "key_id": settings.key_id}
        await create_link_secret(ssm=services.ssm, kms=services.kms, **place)
        if settings.feedback_parameter is not None:
            place["name"], purpose = settings.feedback_parameter, FEEDBACK_SECRET_PURPOSE
            await create_link_secret(ssm=services.ssm, kms=services.kms, purpose=purpose, **place)
    return name


handle = CustomResourceEntry(LinkSecretSettings, open_link_secret, run)
