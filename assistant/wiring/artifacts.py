"""What a process reads before it serves, from S3 where its settings say so: tenant file and artifacts."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

import structlog

from assistant.domain.errors import AssistantError
from assistant.settings.process import StoreSettings
from assistant.settings.tenant import TenantFiles, load_tenants
from assistant.wiring.clients import ProcessClients

_log = structlog.get_logger(__name__)


async def read_tenants(settings: StoreSettings, clients: ProcessClients) -> TenantFiles:
    """Return every tenant of ``tenants_dir`` as it is served, the one from ``tenant_file_s3`` among them.

    A wrong file is logged and stops no other tenant. Raises ConfigurationError naming file and key, object or
    variables; DependencyError when S3 does not answer.
    """
    if settings.tenant_file_s3 is not None:
        from assistant.aws.artifact_download import download_tenant_file

        await download_tenant_file(
            await clients.aws("s3"), uri=settings.tenant_file_s3, into=settings.tenants_dir
        )
    files = load_tenants(settings.tenants_dir, only=settings.only_tenants)
    for name, error in files.refused.items():
        not_served(name, error)
    tenants = {name: settings.as_served(tenant) for name, tenant in files.tenants.items()}
    settings.check_tenants(tenants)
    return replace(files, tenants=tenants)


def not_served(tenant: str, error: AssistantError) -> None:
    """Log which tenant this process leaves out, and why; it goes on with the others."""
    _log.warning("tenant_not_served", tenant=tenant, reason=error.message)


async def fetch_artifacts(settings: StoreSettings, clients: ProcessClients, models: AbstractSet[str]) -> None:
    """Bring the models' artifacts into ``model_artifacts_dir``; nothing to do where they lie there already.

    Raises ConfigurationError naming the object, DependencyError when S3 does not answer.
    """
    if settings.model_artifacts_s3 is None:
        return
    from assistant.aws.artifact_download import download_artifacts

    await download_artifacts(
        await clients.aws("s3"),
        prefix=settings.model_artifacts_s3,
        models=models,
        into=settings.model_artifacts_dir,
    )
