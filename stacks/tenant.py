"""One tenant as the stacks see it: its file with the images and model artifacts that it names, checked
together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.option import Place
from assistant.process.settings import ServiceSettings
from assistant.tenant.deployment import (
    RETENTION,
    EdgeSection,
    IdentitySection,
    ModelsSection,
    PlaceSection,
    ReachEntry,
)
from assistant.tenant.deployment_checks import (
    Contradiction,
    artifact_contradictions,
    clashes,
    contradictions,
    said_of,
    wrong_ending,
)
from assistant.tenant.manifests import (
    DEFAULT_INSTANCES,
    EmbeddingManifest,
    ImageLock,
    Instance,
    LlmManifest,
    check_embedding_fit,
    check_llm_fit,
    instance_named,
    load_compatibility,
    load_images,
)
from assistant.tenant.tenant import (
    DeployedKeeping,
    EmbeddingSection,
    RecordsSection,
    TenantConfig,
    load_tenant,
    load_tenants,
)
from assistant.tenant.toml_file import line_of

ROOT = Path(__file__).parents[1]
MODELS = Place[Callable[[Path, Sequence[str]], None]]("models of a deployment")
"""What raises ConfigurationError where a deployment from this folder must not serve an artifact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedTenant:
    """``config`` is the effective tenant file on AWS: the deployment sets the model's name and context, the
    index's replicas and the place of the link secret."""

    config: TenantConfig
    place: PlaceSection
    identity: IdentitySection
    edge: EdgeSection
    models: ModelsSection
    images: ImageLock
    llm: LlmManifest | None
    """None where the model that writes is behind no endpoint of this deployment."""
    embedding: EmbeddingManifest
    candidate: LlmManifest | None = None
    """The model that a release runs beside ``llm``."""
    embedding_next: EmbeddingManifest | None = None
    """The model of the index beside the live one."""

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
        return RETENTION[self.place.profile].logs

    @property
    def role_path(self) -> str:
        """Path of the tenant's roles, below the company's: an ARN shows which tenant a role belongs to."""
        return f"{self.place.role_path}{self.name}/"

    @property
    def served(self) -> Sequence[LlmManifest | EmbeddingManifest]:
        """The models of the endpoints, without a candidate."""
        following = () if self.embedding_next is None else (self.embedding_next,)
        return [*(() if self.llm is None else (self.llm,)), self.embedding, *following]

    def llm_instance(self, llm: LlmManifest) -> Instance:
        return instance_named(self.models.llm_instance or DEFAULT_INSTANCES[llm.accelerator])

    @property
    def embeddings(self) -> Sequence[tuple[EmbeddingSection, EmbeddingManifest, Instance]]:
        """Each embedding model as the file, its manifest and its instance say, that of ``[embedding]``
        first."""
        said = (
            (self.config.embedding, self.embedding, self.models.embedding_instance),
            (self.config.embedding_next, self.embedding_next, self.models.embedding_next_instance),
        )
        return [
            (section, manifest, instance_named(instance or DEFAULT_INSTANCES[manifest.accelerator]))
            for section, manifest, instance in said
            if section is not None and manifest is not None
        ]

    @property
    def jwks_parameter(self) -> str:
        return self.identity.jwks_parameter or self.parameter("jwks")

    @property
    def power_parameter(self) -> str:
        return self.parameter("power")

    @property
    def link_secret_parameter(self) -> str:
        return self.parameter("document-links")

    @property
    def feedback_secret_parameter(self) -> str:
        return self.parameter("feedback-pseudonyms")

    @property
    def live_reads_secret_parameter(self) -> str:
        return self.parameter("live-read-pseudonyms")

    @property
    def care_jwks_parameter(self) -> str:
        return self.parameter("care-jwks")

    @property
    def revocations_parameter(self) -> str:
        """SSM parameter with revoked tokens of agents. No stack creates it: without it none is revoked."""
        return self.parameter("revocations")

    @property
    def system_switches(self) -> str:
        """Prefix of the SSM parameters that switch live systems off. No stack creates them: a system without
        one is on."""
        return self.parameter("systems")

    @property
    def callable_systems(self) -> tuple[ReachEntry, ...]:
        """The ``[[reach]]`` entries that the service calls, for live data or with replies."""
        return tuple(entry for entry in self.config.reach if entry.is_called)

    @property
    def connected_systems(self) -> tuple[ReachEntry, ...]:
        """The ``[[reach]]`` entries that connectors of sources call."""
        return tuple(entry for entry in self.config.reach if entry.caller == "connectors")

    @property
    def own_secrets(self) -> tuple[ReachEntry, ...]:
        """The called entries whose secret the deployment creates."""
        called = (*self.callable_systems, *self.connected_systems)
        return tuple(entry for entry in called if self.secret_of(entry) == self._own_secret(entry))

    def secret_of(self, entry: ReachEntry) -> str | None:
        """Return the name of an entry's secret in Secrets Manager; None where it needs none."""
        if entry.auth not in ("token", "oauth") and entry.caller != "connectors":
            return None
        return self._own_secret(entry) if entry.secret is None else entry.secret.partition(":")[2]

    def _own_secret(self, entry: ReachEntry) -> str:
        return f"{self.place.name_prefix}/{self.name}/reach/{entry.name}"

    @property
    def full_name(self) -> str:
        """``assistant-pharmacy``: name of the stage and the ECS cluster, beginning of every stack's name, and
        the dimension of the metrics that tasks and functions publish."""
        return f"{self.place.name_prefix}-{self.name}"

    @property
    def power_log_group(self) -> str:
        """Name of the log group of both power machines. For any other name Step Functions adds itself to one
        of the account's log resource policies, of 5,120 characters each: where many machines log, they are
        full, and the machine is refused."""
        return f"/aws/vendedlogs/{self.full_name}-power"

    @property
    def insights_log_group(self) -> str:
        """Name of the log group that Container Insights derives from the cluster's name."""
        return f"/aws/ecs/containerinsights/{self.full_name}/performance"

    @property
    def search_alias(self) -> str:
        """Alias of the index that the service searches."""
        template = str(ServiceSettings.model_fields["opensearch_index"].default)
        return template.replace("{tenant}", self.name)

    def parameter(self, name: str) -> str:
        """Return the full name of an SSM parameter of this tenant."""
        return self.place.parameter(self.name, name)

    def tags(self) -> Mapping[str, str]:
        """Return the tags of every resource of the tenant, except ``data-class``."""
        return {
            **self.place.required_tags,
            "tenant": self.name,
            "cost-center": self.place.cost_center,
            "profile": self.place.profile,
            "release": self.place.release,
        }


_EMBEDDINGS = ("embedding", "embedding_next")
_REPLICAS = {"dev": 0, "standard": 1, "hipaa": 2}
"""Per shard, by profile: a domain with standby takes only 2, 5, …"""


def read_tenants(*, folder: Path, only: str | None, images: Path) -> list[DeployedTenant]:
    """Return the tenants to deploy, by name; with ``only`` no other file is opened.

    A file without ``[deployment]`` is served locally only: it is skipped, or refused where ``only`` names it.
    An invalid file does not stop the others: stderr names it, and ``make synth`` fails after the others are
    checked. Raises ConfigurationError naming file, line, key and allowed values, when no tenant is left.
    """
    lock = load_images(images)
    if only is not None:
        return [_read_tenant(folder / f"{only}.toml", lock=lock)]
    files = load_tenants(folder)
    refused = dict(files.refused)
    tenants: list[DeployedTenant] = []
    for name, tenant in files.tenants.items():
        if tenant.deployment is not None:
            try:
                tenants.append(_deployed(tenant, lock=lock, file=folder / f"{name}.toml"))
            except ConfigurationError as error:
                refused[name] = error
    refused |= _clashing(tenants, folder=folder)
    kept = [tenant for tenant in tenants if tenant.name not in refused]
    messages = dict.fromkeys(error.message for error in refused.values())
    if refused and not kept:
        raise ConfigurationError("\n".join(messages))
    for message in messages:
        sys.stderr.write(f"warning: {message}\n")
    if refused:
        sys.stderr.write(f"warning: no templates for {', '.join(refused)}; the others are synthesized.\n")
    return kept


def _read_tenant(file: Path, *, lock: ImageLock) -> DeployedTenant:
    tenant = load_tenant(file)
    if tenant.deployment is None:
        raise ConfigurationError(f"{file}: there is no [deployment] section, so it is only served locally.")
    return _deployed(tenant, lock=lock, file=file)


def _clashing(tenants: Sequence[DeployedTenant], *, folder: Path) -> dict[str, ConfigurationError]:
    """Return both tenants of each pair that conflicts: neither file says which was first."""
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
    if why := wrong_ending(tenant.name):
        raise ConfigurationError("".join(said_of(file, [Contradiction(("name",), why)])))
    for refuse in MODELS.joined():
        refuse(ROOT, [name for name in (tenant.models.llm, *tenant.models.embeddings) if name is not None])
    served = tenant.models.llm if tenant.generation.has_endpoint else None
    llm = None if served is None else LlmManifest.read(ROOT / "model_artifacts" / "llm" / served)
    embedding = EmbeddingManifest.read(ROOT / "model_artifacts" / "embedding" / tenant.models.embedding)
    after = tenant.models.embedding_next
    following = None if after is None else EmbeddingManifest.read(ROOT / "model_artifacts/embedding" / after)
    beside = tenant.models.candidate
    candidate = None if beside is None else LlmManifest.read(ROOT / "model_artifacts" / "llm" / beside)
    wrong = [
        *contradictions(tenant, place=tenant.deployment, edge=tenant.edge, models=tenant.models),
        *artifact_contradictions(
            tenant,
            models=tenant.models,
            llm=llm,
            embedding=embedding,
            candidate=candidate,
            embedding_next=following,
            prompts=released_prompts(ROOT / "assistant" / "answer" / "prompts"),
        ),
    ]
    if wrong:
        raise ConfigurationError("\n".join(said_of(file, wrong)))
    deployed = DeployedTenant(
        config=tenant,
        place=tenant.deployment,
        identity=tenant.identity,
        edge=tenant.edge,
        models=tenant.models,
        images=lock,
        llm=llm,
        embedding=embedding,
        candidate=candidate,
        embedding_next=following,
    )
    _check_artifacts(deployed, file=file)
    return replace(deployed, config=_effective_config(deployed))


def _effective_config(tenant: DeployedTenant) -> TenantConfig:
    """Return the effective tenant file on AWS, with the values that follow from artifacts and profile.

    How the model is prompted is not part of the file: callers read the manifest's table in ``artifact.json``
    below ``CALLERS_PREFIX``.
    """
    config, llm = tenant.config, tenant.llm
    given = config.index.model_fields_set
    replicas = config.index.replicas if "replicas" in given else _REPLICAS[tenant.place.profile]
    return config.model_copy(
        update={
            "generation": config.generation
            if llm is None
            else config.generation.model_copy(
                update={
                    "model": llm.served_name,
                    "context_tokens": llm.sequence_length,
                    "canary_sha256": None if tenant.candidate is None else tenant.candidate.sha256,
                }
            ),
            **{
                key: section.model_copy(
                    update={"model": manifest.served_name, "dimensions": manifest.dimensions}
                )
                for key, (section, manifest, _) in zip(_EMBEDDINGS, tenant.embeddings, strict=False)
            },
            "index": config.index.model_copy(update={"replicas": replicas}),
            "secrets": config.secrets.model_copy(
                update={"document_links": f"kms:{tenant.link_secret_parameter}"}
            ),
            # The container's file has no profile.
            "review": config.review.model_copy(
                update={"two_people": config.needs_two_people, "guard": config.guard}
            ),
            "records": RecordsSection(
                live_values_days=config.live_values_days,
                deployed=DeployedKeeping(
                    profile=tenant.place.profile,
                    capture=tenant.models.capture,
                    capture_texts="redacted" if tenant.models.keeps_captured_texts else "none",
                ),
            ),
        }
    )


def _check_artifacts(tenant: DeployedTenant, *, file: Path) -> None:
    """Raise ConfigurationError where an artifact, its image and its instance do not fit together."""
    table = load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")
    try:
        for manifest in tenant.served:
            table.check(manifest, images=tenant.images)
            tenant.images.account(manifest.image, region=tenant.place.region, own="")
        for llm in (tenant.llm, tenant.candidate):
            if llm is not None:
                table.check(llm, images=tenant.images)
                check_llm_fit(llm, tenant.llm_instance(llm))
        for _, manifest, instance in tenant.embeddings:
            check_embedding_fit(manifest, instance)
    except ConfigurationError as error:
        line = line_of(file.read_text(encoding="utf-8"), ("models",))
        raise ConfigurationError(f"{file}: line {line}: models: {error.message}") from None


def released_prompts(folder: Path) -> dict[str, bool]:
    """Return the id of each released prompt below ``folder``, and whether the prompt lets a model refuse."""
    return {
        f"{path.parent.name}/{path.stem}": "# refusal" in path.read_text(encoding="utf-8").splitlines()
        for path in sorted(folder.glob("*/*.md"))
    }
