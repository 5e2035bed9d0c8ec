"""Checks of a tenant's templates: its facts, the intended paths, and what a deployment refuses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.tenant.deployment import ModelsSection
from assistant.tenant.manifests import (
    INSTANCES,
    ImageLock,
    load_embedding_manifest,
    load_images,
    load_llm_manifest,
)
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.terminal.publishing import ARM, PLATFORMS
from template_checks.facts import (
    ArtifactFact,
    Facts,
    Finding,
    ImageFact,
    InstanceFact,
    IntendedPaths,
    Status,
    finding_as_text,
    load_intended_paths,
)
from template_checks.reachability import Report
from template_checks.reachability import prove as prove_intended
from template_checks.rules import check_rules
from template_checks.templates import Templates

INSTANCE_TABLE = {
    instance.name: InstanceFact(cores=instance.cores, has_local_disk=instance.has_local_disk)
    for instance in INSTANCES
}


def facts_of(tenant_file: Path, *, root: Path) -> Facts:
    """Return what no template of the tenant contains.

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
        answer_deadline_s=tenant.limits.answer_deadline_s,
        existing_endpoints=tuple(tenant.network.endpoints),
        images=_images(load_images(root / "images.lock.toml"), tenant),
        artifacts=_artifacts(tenant.models, root / "model_artifacts"),
        instances=INSTANCE_TABLE,
    )


def _images(lock: ImageLock, tenant: TenantConfig) -> tuple[ImageFact, ...]:
    return tuple(
        ImageFact(
            repository=image.repository,
            accounts=lock.accounts(name),
            architecture=_architecture(name, tenant) if image.is_own else None,
        )
        for name, image in lock.images.items()
    )


def _architecture(name: str, tenant: TenantConfig) -> Literal["X86_64", "ARM64"]:
    """Return what ``make images`` builds an image for: by default that of the tasks."""
    fixed = PLATFORMS.get(name)
    return tenant.tasks.architecture if fixed is None else "ARM64" if fixed == ARM else "X86_64"


def _artifacts(models: ModelsSection, folder: Path) -> tuple[ArtifactFact, ...]:
    embeddings = [load_embedding_manifest(folder / "embedding" / name) for name in models.embeddings]
    llms = [load_llm_manifest(folder / "llm" / name) for name in (models.llm, models.candidate) if name]
    return (
        *(
            ArtifactFact(
                name=llm.name,
                uri=_folder(llm.name, llm.sha256),
                batch_size=llm.batch_size,
                sequence_length=llm.sequence_length,
                tensor_parallel=llm.tensor_parallel,
            )
            for llm in llms
        ),
        *(ArtifactFact(name=one.name, uri=_folder(one.name, one.sha256)) for one in embeddings),
    )


def _folder(name: str, sha256: str | None) -> str:
    """Return the part of the S3 address that only this artifact has, with its hash once it is packaged."""
    return f"/{name}/{sha256}/" if sha256 else f"/{name}/"


# --- intended paths ---------------------------------------------------------------------------------------
@cache
def intended_paths() -> IntendedPaths:
    """Return the paths that a tenant's network is meant to have: ``intended_paths.toml``."""
    return load_intended_paths(Path(__file__).with_name("intended_paths.toml"))


def prove(templates: Templates, *, facts: Facts | None = None) -> Report:
    """Return what a tenant's templates make reachable, compared with the intended paths."""
    return prove_intended(templates, facts=facts, intended=intended_paths())


# --- what a deployment refuses ----------------------------------------------------------------------------
def refuse_broken_rules(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with everything in a tenant's templates that breaks a rule of an AWS service."""
    facts = facts_of(tenant_file, root=root or Path.cwd())
    _refuse(
        "These rules of AWS services are broken", check_rules(read_templates([templates], facts), facts=facts)
    )


def refuse_paths(templates: Path, *, tenant_file: Path, root: Path | None = None) -> None:
    """Raise DeploymentError with every unintended and every missing path of a tenant's templates.

    What no template contains (routes of an existing VPC) is not refused: no tenant could be deployed there.
    """
    facts = facts_of(tenant_file, root=root or Path.cwd())
    report = prove(read_templates([templates], facts), facts=facts)
    refused = [finding for finding in report.findings if finding.status is Status.REFUSED]
    _refuse("What these templates let reach what is refused", refused)


def read_templates(paths: Sequence[Path], facts: Facts) -> Templates:
    """Return the templates of files and folders, in the account and region of the facts."""
    return Templates.read(paths, account=facts.account, region=facts.region)


def _refuse(what: str, findings: Sequence[Finding]) -> None:
    if findings:
        raise DeploymentError("\n".join([f"{what}:", *map(finding_as_text, findings)]))
