"""One tenant as the stacks see it: its file, whole, with the images and model artifacts that it names."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import EdgeSection, IdentitySection, ModelsSection, PlaceSection
from assistant.settings.deployment_checks import (
    Contradiction,
    artifact_contradictions,
    clashes,
    contradictions,
    said_of,
    wrong_ending,
)
from assistant.settings.images import ImageLock, load_images
from assistant.settings.model_artifacts import (
    DEFAULT_INSTANCES,
    CompatibilityTable,
    EmbeddingManifest,
    LlmManifest,
    check_embedding_fit,
    check_llm_fit,
    instance_named,
    load_compatibility,
    load_embedding_manifest,
    load_llm_manifest,
    released_prompts,
)
from assistant.settings.tenant import TenantConfig, load_tenant, load_tenants
from assistant.settings.toml_file import line_of

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedTenant:
    """``config`` is the tenant file as it will be read on AWS: the model's name and context, the index's
    copies and the place of the link secret are those of the deployment."""

    config: TenantConfig
    place: PlaceSection
    identity: IdentitySection
    edge: EdgeSection
    models: ModelsSection
    images: ImageLock
    llm: LlmManifest
    embedding: EmbeddingManifest

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_hipaa(self) -> bool:
        return self.place.profile == "hipaa"

    @property
    def is_dev(self) -> bool:
        return self.place.profile == "dev"

    @property
    def log_retention_days(self) -> int:
        """How long logs are kept: six years in a HIPAA programme."""
        return {"dev": 30, "standard": 365, "hipaa": 2192}[self.place.profile]

    @property
    def role_path(self) -> str:
        """Path of the tenant's roles: below the company's, so that an ARN shows whose a role is."""
        return f"{self.place.role_path}{self.name}/"

    @property
    def jwks_parameter(self) -> str:
        return self.identity.jwks_parameter or self.parameter("jwks")

    @property
    def power_parameter(self) -> str:
        return self.parameter("power")

    @property
    def link_secret_parameter(self) -> str:
        return self.parameter("document-links")

    def with_config(self, config: TenantConfig) -> DeployedTenant:
        """Return the tenant with its file as it is meant on AWS."""
        return replace(self, config=config)

    @property
    def metrics_service(self) -> str:
        """Value of the one dimension of the metrics that the tenant's tasks and functions tell."""
        return f"{self.place.name_prefix}-{self.name}"

    @property
    def cluster_name(self) -> str:
        """Name of the ECS cluster: fixed, because Container Insights names its log group after it."""
        return f"{self.place.name_prefix}-{self.name}"

    @property
    def insights_log_group(self) -> str:
        """Name of the log group that Container Insights writes the cluster's measurements to."""
        return f"/aws/ecs/containerinsights/{self.cluster_name}/performance"

    def parameter(self, name: str) -> str:
        """Return the full name of an SSM parameter of this tenant."""
        return self.place.parameter(self.name, name)

    def tags(self) -> Mapping[str, str]:
        """Return what every resource of the tenant is tagged with, data-class aside."""
        return {
            **self.place.required_tags,
            "tenant": self.name,
            "cost-center": self.place.cost_center,
            "profile": self.place.profile,
            "release": self.place.release,
        }


# From tenant files to what the stacks take: the file, its images, its model artifacts, held together.


_COPIES = {"dev": 0, "standard": 1, "hipaa": 2}
"""Of each shard, by profile: with standby a domain takes only 2, 5, …"""


def read_tenants(*, folder: Path, only: str | None, images: Path) -> list[DeployedTenant]:
    """Return the tenants to deploy, by name; with ``only`` no other file is opened.

    A file without ``[deployment]`` is one that is only served locally: passed over, unless it was asked for.
    A wrong file stops no other: stderr names it, and ``make synth`` fails after the others are proven.
    Raises ConfigurationError naming file, line, key and what is allowed, when no tenant is left.
    """
    lock = load_images(images)
    if only is not None:
        tenant = load_tenant(folder / f"{only}.toml")
        if tenant.deployment is None:
            raise ConfigurationError(
                f"{folder / only}.toml: there is no [deployment] section, so it is only served locally."
            )
        return [_deployed(tenant, lock=lock, file=folder / f"{only}.toml")]
    files = load_tenants(folder)
    refused = dict(files.refused)
    found: list[DeployedTenant] = []
    for name, tenant in files.tenants.items():
        if tenant.deployment is not None:
            try:
                found.append(_deployed(tenant, lock=lock, file=folder / f"{name}.toml"))
            except ConfigurationError as error:
                refused[name] = error
    refused |= _clashing(found, folder=folder)
    kept = [tenant for tenant in found if tenant.name not in refused]
    said = dict.fromkeys(error.message for error in refused.values())
    if refused and not kept:
        raise ConfigurationError("\n".join(said))
    for message in said:
        sys.stderr.write(f"warning: {message}\n")
    if refused:
        sys.stderr.write(f"warning: no templates for {', '.join(refused)}; the others are synthesized.\n")
    return kept


def _clashing(tenants: Sequence[DeployedTenant], *, folder: Path) -> dict[str, ConfigurationError]:
    """Return both of each two tenants that cannot stand beside each other: neither says which was first."""
    refused: dict[str, ConfigurationError] = {}
    for clash in clashes(tenant.config for tenant in tenants):
        error = ConfigurationError(f"{folder}: {clash.said}")
        refused |= {clash.one: error, clash.other: error}
    return refused


def _deployed(tenant: TenantConfig, *, lock: ImageLock, file: Path) -> DeployedTenant:
    sections = {name: getattr(tenant, name) for name in ("deployment", "identity", "edge", "models")}
    missing = [f"[{name}]" for name, section in sections.items() if section is None]
    if tenant.deployment is None or tenant.identity is None or tenant.edge is None or tenant.models is None:
        raise ConfigurationError(f"{file}: a deployment needs {', '.join(missing)} too.")
    _refuse_ending(tenant.name, file=file)
    llm = load_llm_manifest(ROOT / "model_artifacts" / "llm" / tenant.models.llm)
    embedding = load_embedding_manifest(ROOT / "model_artifacts" / "embedding" / tenant.models.embedding)
    wrong = [
        *contradictions(tenant, place=tenant.deployment, edge=tenant.edge, models=tenant.models),
        *artifact_contradictions(
            tenant,
            models=tenant.models,
            llm=llm,
            embedding=embedding,
            prompts=released_prompts(ROOT / "assistant" / "answering" / "prompts"),
        ),
    ]
    if wrong:
        raise ConfigurationError("\n".join(said_of(file, wrong)))
    _refuse_what_cannot_run(
        file, models=tenant.models, region=tenant.deployment.region, lock=lock, manifests=(llm, embedding)
    )
    deployed = DeployedTenant(
        config=tenant,
        place=tenant.deployment,
        identity=tenant.identity,
        edge=tenant.edge,
        models=tenant.models,
        images=lock,
        llm=llm,
        embedding=embedding,
    )
    return deployed.with_config(_as_deployed(deployed))


def _as_deployed(tenant: DeployedTenant) -> TenantConfig:
    """Return the file as it is meant on AWS: what follows from artifacts and profile stands in it.

    How the model is asked (prompt, passages, whether it may write) is not part of the file: callers read the
    manifest's table in ``artifact.json`` below ``CALLERS_PREFIX``.
    """
    config, llm, embedding = tenant.config, tenant.llm, tenant.embedding
    given = config.index.model_fields_set
    copies = config.index.replicas if "replicas" in given else _COPIES[tenant.place.profile]
    return config.model_copy(
        update={
            "generation": config.generation.model_copy(
                update={"model": llm.served_name, "context_tokens": llm.sequence_length}
            ),
            "embedding": config.embedding.model_copy(
                update={"model": embedding.served_name, "dimensions": embedding.dimensions}
            ),
            "index": config.index.model_copy(update={"replicas": copies}),
            "secrets": config.secrets.model_copy(
                update={"document_links": f"kms:{tenant.link_secret_parameter}"}
            ),
        }
    )


def _refuse_what_cannot_run(
    file: Path,
    *,
    models: ModelsSection,
    region: str,
    lock: ImageLock,
    manifests: tuple[LlmManifest, EmbeddingManifest],
) -> None:
    """Raises ConfigurationError where an artifact, its image and its instance do not go together."""
    llm, embedding = manifests
    table = _compatibility()
    try:
        for manifest in manifests:
            table.check(manifest, images=lock)
            lock.account(manifest.image, region=region, own="")
        check_llm_fit(llm, instance_named(models.llm_instance or DEFAULT_INSTANCES[llm.accelerator]))
        check_embedding_fit(
            embedding, instance_named(models.embedding_instance or DEFAULT_INSTANCES[embedding.accelerator])
        )
    except ConfigurationError as error:
        line = line_of(file.read_text(encoding="utf-8"), ("models",))
        raise ConfigurationError(f"{file}: line {line}: models: {error.message}") from None


def _compatibility() -> CompatibilityTable:
    return load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")


def _refuse_ending(name: str, *, file: Path) -> None:
    if why := wrong_ending(name):
        raise ConfigurationError("".join(said_of(file, [Contradiction(("name",), why)])))
