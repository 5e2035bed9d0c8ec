"""Facts about a deployment that its templates do not contain, the paths that its owner intends, and what
a check reports.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from template_checks import InvalidInputError
from template_checks.templates import Resource


def _check_block(text: str) -> str:
    """Return an address block (``10.0.0.0/16``) unchanged. Raises ValueError."""
    ip_network(text)
    return text


CidrBlock = Annotated[str, AfterValidator(_check_block)]


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageFact(_FrozenModel):
    """One row of the image table."""

    repository: str
    """Without registry and tag: ``huggingface-vllm-inference-neuronx``."""
    accounts: Mapping[str, str] = {}
    """Region = account that publishes it there; none when it is your own, in the deployment's account."""
    architecture: Literal["X86_64", "ARM64"] | None = None


class ArtifactFact(_FrozenModel):
    """What one model artifact was compiled for, from its manifest."""

    name: str
    uri: str | None = None
    """Part of the S3 address of its model data that no other artifact has."""
    batch_size: int | None = Field(default=None, ge=1)
    sequence_length: int | None = Field(default=None, ge=1)
    tensor_parallel: int | None = Field(default=None, ge=1)


class InstanceFact(_FrozenModel):
    """One row of the instance table."""

    cores: int = Field(default=0, ge=0)
    """NeuronCores or GPUs."""
    has_local_disk: bool = False


class Facts(_FrozenModel):
    """What no template contains, from the tenant's file and the tables of images, artifacts and instances."""

    account: str | None = None
    region: str | None = None
    zones: tuple[str, ...] = ()
    """The region's availability zones, as the account names them."""
    consumer_cidrs: tuple[CidrBlock, ...] = ()
    """Address blocks of every client behind the private link."""
    answer_deadline_s: float | None = Field(default=None, gt=0)
    """For the whole answer, its stream included."""
    existing_endpoints: tuple[str, ...] = ()
    """Services (``kms``, ``ecr.api``…) that have an endpoint in the VPC, outside these templates."""
    images: tuple[ImageFact, ...] = ()
    artifacts: tuple[ArtifactFact, ...] = ()
    instances: Mapping[str, InstanceFact] = {}
    """By name of the instance type; others are refused."""


class IntendedPath(_FrozenModel):
    """TCP connections that the owner intends, between two kinds of stations (``Kind``, or a name below):
    ``{source = "orchestrator", target = "search domain"}``."""

    source: str
    target: str
    ports: tuple[int, ...] = (443,)


class IntendedPaths(_FrozenModel):
    """The paths that a network is meant to have, and what its owner calls the kinds of stations in it."""

    clients: str = "clients"
    """Name of the callers behind the private link."""
    tasks: str = "tasks"
    """Name of what ECS services run."""
    scheduled_tasks: Mapping[str, str] = {}
    """Name of a kind, by the module in the entry point of a container that a state machine runs on ECS."""
    functions: Mapping[str, str] = {}
    """Name of a kind, by the module of a function's handler (``lambdas.ingest_documents``)."""
    unattached_groups: Mapping[str, str] = {}
    """Name of a kind, by the description of a security group that no resource of the templates has: jobs that
    are started later use it."""
    system_callers: tuple[str, ...] = ()
    """Kinds that may call company systems; each system must have one of them, on one port."""
    paths: tuple[IntendedPath, ...] = ()


def load_intended_paths(path: Path) -> IntendedPaths:
    """Read a file of intended paths. Raises InvalidInputError naming file and key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return IntendedPaths.model_validate_json(json.dumps(data), strict=True)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InvalidInputError(f"{path}: not a file of intended paths: {error}") from None


class Status(StrEnum):
    """From worst to best."""

    REFUSED = "refused"
    NOT_PROVEN = "not proven"
    """Something that decides this is neither in the templates nor in the facts."""
    PASSED = "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with one resource. ``code`` is stable (``nlb-idle-timeout``)."""

    status: Status
    code: str
    where: str
    """``<stack>.<logical id>``."""
    message: str
    fix: str
    """What to do about it."""


def refused(resource: Resource, code: str, message: str, fix: str) -> Finding:
    """Return the finding that something is wrong."""
    where = f"{resource.template.name}.{resource.logical_id}"
    return Finding(status=Status.REFUSED, code=code, where=where, message=message, fix=fix)


def not_proven(resource: Resource, code: str, message: str, fix: str) -> Finding:
    """Return the finding that templates and facts do not decide it; ``fix`` says what would."""
    return replace(refused(resource, code, message, fix), status=Status.NOT_PROVEN)


def worst(findings: Iterable[Finding]) -> Status | None:
    """Return the worst status; None without findings."""
    statuses = {finding.status for finding in findings}
    return next((status for status in Status if status in statuses), None)


def finding_as_text(finding: Finding) -> str:
    """Return a finding in three lines: what and where, the message, the fix."""
    return f"{finding.status}: {finding.where} {finding.code}\n  {finding.message}\n  {finding.fix}"
