"""One tenant as the stacks see it: its file with the images and model artifacts that it names, checked
together.

``read_tenants`` makes the tenants of a deployment. For each file it reads the manifests of the models that
the file names, checks file, manifests and images against one another, and then replaces the file by the
effective one, which the tasks on AWS get.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from assistant.domain.errors import ConfigurationError
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
    check_compared,
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


@cache
def release() -> str:
    """Return the version of this package: the tag ``release`` of each resource."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedTenant:
    """A tenant that is deployed, and the names that its stacks and their readers share.

    Example, of the tenant file ``pharmacy.toml`` with ``name_prefix = "acme"``::

        tenant.full_name  # "acme-pharmacy"
        tenant.jwks_parameter  # "/acme/pharmacy/jwks"
        tenant.llm_instance(tenant.llm)  # the instance type of its LLM endpoint, with its memory
    """

    config: TenantConfig
    """The effective tenant file on AWS: the deployment sets the models' names and sizes, the index's
    replicas, the place of the link secret, and what follows from the profile."""
    place: PlaceSection
    """``[deployment]``. This and the next three are sections of the file, which all are there."""
    identity: IdentitySection
    edge: EdgeSection
    models: ModelsSection
    images: ImageLock
    """``images.lock.toml``, which all tenants share."""
    llm: LlmManifest | None
    """None where the model that writes is behind no endpoint of this deployment."""
    embedding: EmbeddingManifest
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
        """The models that have an endpoint."""
        embedding_next = () if self.embedding_next is None else (self.embedding_next,)
        return [*(() if self.llm is None else (self.llm,)), self.embedding, *embedding_next]

    def llm_instance(self, llm: LlmManifest) -> Instance:
        return instance_named(self.models.llm_instance or DEFAULT_INSTANCES[llm.accelerator])

    @property
    def embeddings(self) -> Sequence[tuple[EmbeddingSection, EmbeddingManifest, Instance]]:
        """The section, manifest and instance of each embedding model: first that of ``[embedding]``, then
        that of ``[embedding_next]`` if there is one."""
        models = (
            (self.config.embedding, self.embedding, self.models.embedding_instance),
            (self.config.embedding_next, self.embedding_next, self.models.embedding_next_instance),
        )
        return [
            (section, manifest, instance_named(instance or DEFAULT_INSTANCES[manifest.accelerator]))
            for section, manifest, instance in models
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
        """The called entries whose secret the deployment creates: the file names none, or the name that the
        deployment would give it."""
        called = (*self.callable_systems, *self.connected_systems)
        return tuple(entry for entry in called if self.secret_of(entry) == self._own_secret(entry))

    def secret_of(self, entry: ReachEntry) -> str | None:
        """Return the name of an entry's secret in Secrets Manager; None where it needs none.

        ``secret = "secretsmanager:acme/orders"`` is "acme/orders"; an entry ``orders`` without the key has
        "acme/pharmacy/reach/orders".
        """
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
            "release": release(),
        }


_EMBEDDINGS = ("embedding", "embedding_next")
"""Sections of the tenant file, in the order of ``DeployedTenant.embeddings``."""
_REPLICAS = {"dev": 0, "standard": 1, "hipaa": 2}
"""Per shard, by profile. The domain of ``hipaa`` has a standby zone: OpenSearch then takes 2, 5, …
replicas."""


def read_tenants(*, folder: Path, only: str | None, images: Path) -> list[DeployedTenant]:
    """Return the tenants to deploy, by name; with ``only`` no other file is opened.

    A file without ``[deployment]`` is served locally only: it is skipped, or refused where ``only`` names it.
    An invalid file does not stop the others: stderr names it, and ``make synth`` fails after the others are
    checked. Raises ConfigurationError naming file, line, key and allowed values, when no tenant is left.

    ``images`` is the path of images.lock.toml.
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
    deployable = [tenant for tenant in tenants if tenant.name not in refused]
    messages = dict.fromkeys(error.message for error in refused.values())  # a clash is of two: said once
    if refused and not deployable:
        raise ConfigurationError("\n".join(messages))
    for message in messages:
        sys.stderr.write(f"warning: {message}\n")
    if refused:
        sys.stderr.write(f"warning: no templates for {', '.join(refused)}; the others are synthesized.\n")
    return deployable


def _read_tenant(file: Path, *, lock: ImageLock) -> DeployedTenant:
    tenant = load_tenant(file)
    if tenant.deployment is None:
        raise ConfigurationError(f"{file}: there is no [deployment] section, so it is only served locally.")
    return _deployed(tenant, lock=lock, file=file)


def _clashing(tenants: Sequence[DeployedTenant], *, folder: Path) -> dict[str, ConfigurationError]:
    """Return the name and the error of both tenants of each pair that shares a name in one account and
    region: neither file says which was first."""
    refused: dict[str, ConfigurationError] = {}
    for clash in clashes(tenant.config for tenant in tenants):
        error = ConfigurationError(f"{folder}: {clash.said}")
        refused |= {clash.one: error, clash.other: error}
    return refused


def _deployed(tenant: TenantConfig, *, lock: ImageLock, file: Path) -> DeployedTenant:
    """Return a tenant with the artifacts that it names. Raises ConfigurationError with all that is wrong."""
    sections = {name: getattr(tenant, name) for name in ("deployment", "identity", "edge", "models")}
    missing = [f"[{name}]" for name, section in sections.items() if section is None]
    if tenant.deployment is None or tenant.identity is None or tenant.edge is None or tenant.models is None:
        raise ConfigurationError(f"{file}: a deployment needs {', '.join(missing)} too.")
    if why := wrong_ending(tenant.name):
        raise ConfigurationError("".join(said_of(file, [Contradiction(("name",), why)])))
    llms, embeddings = ROOT / "model_artifacts" / "llm", ROOT / "model_artifacts" / "embedding"
    llm_name = tenant.models.llm if tenant.has_llm_endpoint else None
    llm = None if llm_name is None else LlmManifest.read(llms / llm_name)
    embedding = EmbeddingManifest.read(embeddings / tenant.models.embedding)
    next_name = tenant.models.embedding_next
    embedding_next = None if next_name is None else EmbeddingManifest.read(embeddings / next_name)
    wrong = [
        *contradictions(tenant, place=tenant.deployment, edge=tenant.edge, models=tenant.models),
        *artifact_contradictions(
            tenant,
            models=tenant.models,
            llm=llm,
            embedding=embedding,
            embedding_next=embedding_next,
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
        embedding_next=embedding_next,
    )
    _check_artifacts(deployed, file=file)
    # After the checks, which are of the file as it is written.
    return replace(deployed, config=_effective_config(deployed))


def _effective_config(tenant: DeployedTenant) -> TenantConfig:
    """Return the effective tenant file on AWS: that of ``tenant``, with the values that follow from artifacts
    and profile.

    How the model is prompted is not part of the file: callers read the manifest's table in ``artifact.json``
    below ``CALLERS_PREFIX``.
    """
    config, llm = tenant.config, tenant.llm
    has_replicas = "replicas" in config.index.model_fields_set
    replicas = config.index.replicas if has_replicas else _REPLICAS[tenant.place.profile]
    return config.model_copy(
        update={
            "generation": config.generation
            if llm is None
            else config.generation.model_copy(
                update={"model": llm.served_name, "context_tokens": llm.sequence_length}
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
            # These follow from the profile, which is in [deployment]: a container's file has no such section.
            "review": config.review.model_copy(
                update={"two_people": config.needs_two_people, "guard": config.guard}
            ),
            "records": RecordsSection(
                live_values_days=config.live_values_days,
                deployed=DeployedKeeping(
                    profile=tenant.place.profile,
                    capture=tenant.models.capture,
                    capture_texts="redacted" if tenant.models.keeps_captured_texts else "none",
                    recovery_copies=tenant.place.recovery_copies,
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
            tenant.images.account(manifest.image, region=tenant.place.region, own="")  # raises where none is
        if (llm := tenant.llm) is not None:
            check_llm_fit(llm, tenant.llm_instance(llm))
            check_compared(llm, tenant=tenant.name, artifacts=ROOT / "model_artifacts" / "llm")
        for _, manifest, instance in tenant.embeddings:
            check_embedding_fit(manifest, instance)
    except ConfigurationError as error:
        line = line_of(file.read_text(encoding="utf-8"), ("models",))
        raise ConfigurationError(f"{file}: line {line}: models: {error.message}") from None
