"""Model artifacts from S3, where the settings name a prefix."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from assistant.bootstrap.clients import ProcessClients
from assistant.settings import StoreSettings


async def fetch_artifacts(settings: StoreSettings, clients: ProcessClients, models: AbstractSet[str]) -> None:
    """Bring the models' artifacts into ``model_artifacts_dir``; nothing to do where they lie there already.

    Raises ConfigurationError naming the object, DependencyError when S3 does not answer.
    """
    if settings.model_artifacts_s3 is None:
        return
    from assistant.adapters.aws.artifact_download import download_artifacts

    await download_artifacts(
        await clients.aws("s3"),
        prefix=settings.model_artifacts_s3,
        models=models,
        into=settings.model_artifacts_dir,
    )
