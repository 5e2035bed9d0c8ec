"""Facts about a deployment that its templates do not contain, and the paths that its owner intends."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from template_checks import InvalidInputError


def _check_block(text: str) -> str:
    ip_network(text)
    return text


CidrBlock = Annotated[str, AfterValidator(_check_block)]


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageFact(_Given):
    """One row of the image table."""

    repository: str
    """Without registry and tag: ``huggingface-vllm-inference-neuronx``."""
    accounts: Mapping[str, str] = {}
    """Region = account that publishes it there; none when it is your own, in the deployment's account."""
    architecture: Literal["X86_64", "ARM64"] | None = None


class ArtifactFact(_Given):
    """What one model artifact was compiled for, from its manifest."""

    name: str
    uri: str | None = None
    """Part of the S3 address of its model data that no other artifact has."""
    batch_size: int | None = Field(default=None, ge=1)
    sequence_length: int | None = Field(default=None, ge=1)
    tensor_parallel: int | None = Field(default=None, ge=1)


class InstanceFact(_Given):
    """One row of the instance table."""

    cores: int = Field(default=0, ge=0)
    """NeuronCores or GPUs."""
    has_local_disk: bool = False


class Facts(_Given):
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


class IntendedPath(_Given):
    """TCP connections that the owner intends, between two kinds of stations."""

    source: str
    target: str
    ports: tuple[int, ...] = (443,)


class IntendedPaths(_Given):
    """The paths that a network is meant to have, and the names of its owner for what is in it."""

    clients: str = "clients"
    """Name of the callers behind the private link."""
    tasks: str = "tasks"
    """Name of what ECS services run."""
    functions: Mapping[str, str] = {}
    """Module of a function's handler (``lambdas.ingest``) = name of its kind."""
    unattached_groups: Mapping[str, str] = {}
    """Description of a security group that no resource of the templates has = name of its kind. Jobs that
    are started later use it."""
    system_callers: tuple[str, ...] = ()
    """Kinds of which one may call a company system, on one port."""
    paths: tuple[IntendedPath, ...] = ()


def load_intended_paths(path: Path) -> IntendedPaths:
    """Read a file of intended paths. Raises InvalidInputError naming file and key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return IntendedPaths.model_validate_json(json.dumps(data), strict=True)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InvalidInputError(f"{path}: not a file of intended paths: {error}") from None
