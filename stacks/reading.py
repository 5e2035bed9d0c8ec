"""From tenant files to what the stacks take: the file, its images, its model artifacts, held together."""

from __future__ import annotations

from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.settings import (
    TenantConfig,
    load_embedding_manifest,
    load_images,
    load_llm_manifest,
    load_tenant,
    load_tenants,
)
from stacks.tenant import ROOT, DeployedTenant

_COPIES = {"dev": 0, "standard": 1, "hipaa": 2}
"""Of each shard, by profile: with standby a domain takes only 2, 5, …"""


def read_tenants(*, folder: Path, only: str | None, images: Path) -> list[DeployedTenant]:
    """Return the tenants to deploy, by name; with ``only`` no other file is opened.

    A file without ``[deployment]`` is one that is only served locally: passed over, unless it was asked for.
    Raises ConfigurationError naming file and key.
    """
    if only is not None:
        tenant = load_tenant(folder / f"{only}.toml")
        if tenant.deployment is None:
            raise ConfigurationError(
                f"{folder / only}.toml: there is no [deployment] section, so it is only served locally."
            )
        return [_deployed(tenant, images=images, file=folder / f"{only}.toml")]
    return [
        _deployed(tenant, images=images, file=folder / f"{name}.toml")
        for name, tenant in load_tenants(folder).items()
        if tenant.deployment is not None
    ]


def _deployed(tenant: TenantConfig, *, images: Path, file: Path) -> DeployedTenant:
    sections = {name: getattr(tenant, name) for name in ("deployment", "identity", "edge", "models")}
    missing = [f"[{name}]" for name, section in sections.items() if section is None]
    if tenant.deployment is None or tenant.identity is None or tenant.edge is None or tenant.models is None:
        raise ConfigurationError(f"{file}: a deployment needs {', '.join(missing)} too.")
    llm = load_llm_manifest(ROOT / "model_artifacts" / "llm" / tenant.models.llm)
    embedding = load_embedding_manifest(ROOT / "model_artifacts" / "embedding" / tenant.models.embedding)
    return DeployedTenant(
        config=tenant,
        place=tenant.deployment,
        identity=tenant.identity,
        edge=tenant.edge,
        models=tenant.models,
        images=load_images(images),
        llm=llm,
        embedding=embedding,
    )
