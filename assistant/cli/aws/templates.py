"""A tenant's CloudFormation templates: runs the CDK's command line, and checks what it synthesizes.

The checks themselves are in ``template_checks``, which knows no tenant file. This module gives them the
*facts* of a tenant (``facts_of``) and the *intended paths* of its network (``intended_paths.toml``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.tenant.deployment import ModelsSection
from assistant.tenant.manifests import (
    INSTANCES,
    EmbeddingManifest,
    ImageLock,
    LlmManifest,
    load_images,
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

STANDARD_ERROR = 2
"""File descriptor. Where CI is set, cdk writes to standard output, which belongs to --json."""
_SYNTH_LIMIT_S = 300
DEPLOY_LIMIT_S = 330 * 60
"""Longer than the templates' own timeouts, so that it never ends a healthy deployment: four hours for an
endpoint's blue/green deployment (capacity 60 minutes, download 30, start 60, twice ten of baking; the two
endpoints in parallel), and one and a half for the other stacks, half of that the search domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdkCommand:
    """Runs the CDK's command line in ``root``, a clone with ``cdk.json`` and its packages installed."""

    root: Path
    tenant: str
    tenants_dir: Path

    @property
    def assembly(self) -> Path:
        """The folder that ``synth`` writes and every later step reads, so that all use the same templates.

        It is not ``cdk.out``, where ``cdk synth`` keeps what another run wrote.
        """
        return self.root / "build" / "deploy" / self.tenant

    @property
    def stage(self) -> Path:
        """The folder of the tenant's templates. Raises DeploymentError before ``synth``."""
        assemblies = sorted(self.assembly.glob("assembly-*"))
        if len(assemblies) != 1:
            raise DeploymentError(
                f"{self.assembly} holds {len(assemblies)} stages, not the one of {self.tenant}."
            )
        return assemblies[0]

    def synth(self) -> None:
        """Write the tenant's templates; cdk-nag's findings are errors. Raises DeploymentError."""
        shutil.rmtree(self.assembly, ignore_errors=True)
        context = ["-c", f"tenant={self.tenant}", "-c", f"tenants={self.tenants_dir.resolve()}"]
        self._run(
            ["synth", "--quiet", "--output", str(self.assembly), *context, "**"], limit_s=_SYNTH_LIMIT_S
        )

    def deploy(self, extra: Sequence[str], *, stacks: Sequence[str] = ()) -> None:
        """Deploy the synthesized stacks: all, or ``stacks`` by their names in the tenant's stage (``Data``).

        Raises DeploymentError.
        """
        stage = self.stage.name.removeprefix("assembly-")
        chosen = [f"{stage}/{name}" for name in stacks] or ["**"]
        self._run(["deploy", "--app", str(self.assembly), *extra, *chosen], limit_s=DEPLOY_LIMIT_S)

    def diff(self, extra: Sequence[str]) -> None:
        """Show what deploying would change. Raises DeploymentError.

        By the templates alone: a change set would need the rights to publish files and to make it.
        """
        self._run(
            ["diff", "--app", str(self.assembly), "--method=template", *extra, "**"], limit_s=_SYNTH_LIMIT_S
        )

    def _run(self, arguments: Sequence[str], *, limit_s: float) -> None:
        """Run cdk with its output on stderr. Raises ConfigurationError where it is not installed,
        DeploymentError where it fails or is too slow."""
        command, environment = cdk_call(self.root, arguments)
        try:
            ended = subprocess.run(
                command,
                cwd=self.root,
                env=environment,
                stdout=STANDARD_ERROR,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeploymentError(f"cdk {arguments[0]} did not end within {limit_s:.0f} s.") from None
        if ended.returncode:
            raise DeploymentError(f"cdk {arguments[0]} ended with {ended.returncode}; see its output above.")


def cdk_call(root: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs cdk in ``root``, and its environment. Raises ConfigurationError where that
    is no clone with ``cdk.json`` and its packages installed."""
    command = root / "node_modules" / ".bin" / "cdk"
    if not command.exists() or not (root / "cdk.json").exists():
        raise ConfigurationError(
            f"{root}: no CDK here. Run this in a clone of the repository, after make setup."
        )
    # The Node beside our Python comes first: the machine's own may be too old, or missing.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(command), *arguments], {**os.environ, "PATH": path}


# --- facts -------------------------------------------------------------------------------------------------
# SageMaker's instance types by name
INSTANCE_TABLE = {
    instance.name: InstanceFact(cores=instance.cores, has_local_disk=instance.has_local_disk)
    for instance in INSTANCES
}


def facts_of(tenant_file: Path, *, root: Path) -> Facts:
    """Return the facts that the checks need and that no template of the tenant contains.

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
    """Return where each image of the lock is published, and for which processor our own are built."""
    return tuple(
        ImageFact(
            repository=image.repository,
            accounts=lock.accounts(name),
            architecture=_architecture(name, tenant) if image.is_own else None,
        )
        for name, image in lock.images.items()
    )


def _architecture(name: str, tenant: TenantConfig) -> Literal["X86_64", "ARM64"]:
    """Return the architecture that ``make images`` builds an image for: a fixed one (``PLATFORMS``), or that
    of the tenant's tasks."""
    fixed = PLATFORMS.get(name)
    return tenant.task_architecture if fixed is None else "ARM64" if fixed == ARM else "X86_64"


def _artifacts(models: ModelsSection, folder: Path) -> tuple[ArtifactFact, ...]:
    """Return the tenant's model artifacts; of LLMs also the shape that they are compiled for."""
    embeddings = [EmbeddingManifest.read(folder / "embedding" / name) for name in models.embeddings]
    llms = [] if models.llm is None else [LlmManifest.read(folder / "llm" / models.llm)]
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
        *(ArtifactFact(name=model.name, uri=_folder(model.name, model.sha256)) for model in embeddings),
    )


def _folder(name: str, sha256: str | None) -> str:
    """Return the part of an artifact's S3 address that identifies it: ``/all-MiniLM-L6-v2/3f9c…/``, without
    the hash until it is packaged."""
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

    A path that depends on what no template contains (routes of an existing VPC) is not refused.
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
