"""Facts of a tenant of ours: its file, the image lock and the manifests of its model artifacts."""

from __future__ import annotations

from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import ModelsSection
from assistant.settings.images import ImageLock, load_images
from assistant.settings.model_artifacts import load_embedding_manifest, load_llm_manifest
from assistant.settings.tenant import TenantConfig, load_tenant
from template_checks.facts import ArtifactFact, Facts, ImageFact


def facts_of(tenant_file: Path, *, root: Path) -> Facts:
    """Return what no template of the tenant holds.

    ``root`` has ``images.lock.toml`` and ``model_artifacts/``. Raises ConfigurationError naming file and key.
    """
    tenant = load_tenant(tenant_file)
    if tenant.deployment is None or tenant.edge is None or tenant.models is None:
        raise ConfigurationError(
            f"{tenant_file}: facts are of a deployed tenant; it has no [deployment], [edge] and [models]."
        )
    edge = tenant.edge
    return Facts(
        account=tenant.deployment.account,
        region=tenant.deployment.region,
        zones=tenant.deployment.zones,
        consumer_cidrs=edge.consumer_cidrs,
        host_names=(edge.host_name,),
        answer_deadline_s=tenant.limits.answer_deadline_s,
        existing_endpoints=tuple(tenant.network.endpoints),
        # The company made it for the name that its clients dial; what ACM holds, only an account can show.
        certificates={edge.certificate_arn: (edge.host_name,)},
        images=_images(load_images(root / "images.lock.toml"), tenant),
        artifacts=_artifacts(tenant.models, root / "model_artifacts"),
    )


def _images(lock: ImageLock, tenant: TenantConfig) -> tuple[ImageFact, ...]:
    return tuple(
        ImageFact(
            repository=image.repository,
            accounts=lock.accounts(name),
            # `assistant images publish` takes the one that the tenant's tasks run on.
            architecture=tenant.tasks.architecture if image.is_own else None,
        )
        for name, image in lock.images.items()
    )


def _artifacts(models: ModelsSection, folder: Path) -> tuple[ArtifactFact, ...]:
    llm = load_llm_manifest(folder / "llm" / models.llm)
    embedding = load_embedding_manifest(folder / "embedding" / models.embedding)
    return (
        ArtifactFact(
            name=llm.name,
            uri=_folder(llm.name, llm.sha256),
            batch_size=llm.batch_size,
            sequence_length=llm.sequence_length,
            tensor_parallel=llm.tensor_parallel,
        ),
        ArtifactFact(name=embedding.name, uri=_folder(embedding.name, embedding.sha256)),
    )


def _folder(name: str, sha256: str | None) -> str:
    """Return the part of the S3 address that tells an artifact apart, with its hash once it is packaged."""
    return f"/{name}/{sha256}/" if sha256 else f"/{name}/"
