"""Facts about a deployment that its templates do not contain, and the paths that its owner intends.

Both are TOML files: ``--facts FILE`` and ``--intended FILE``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from template_checks import InvalidInputError


def _check_block(text: str) -> str:
    ip_network(text)
    return text


CidrBlock = Annotated[str, AfterValidator(_check_block)]


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageFact(_Given):
    """One row of the image table (``[[images]]``)."""

    repository: str
    """Without registry and tag: ``huggingface-vllm-inference-neuronx``."""
    accounts: Mapping[str, str] = {}
    """Region = account that publishes it there; none when it is your own, in the deployment's account."""
    architecture: Literal["X86_64", "ARM64"] | None = None


class ArtifactFact(_Given):
    """What one model artifact was compiled for, from its manifest (``[[artifacts]]``)."""

    name: str
    uri: str | None = None
    """Part of the S3 address of its model data that no other artifact has; not needed for a single one."""
    batch_size: int | None = Field(default=None, ge=1)
    sequence_length: int | None = Field(default=None, ge=1)
    tensor_parallel: int | None = Field(default=None, ge=1)


class InstanceFact(_Given):
    """One row of the instance table (``[instances."ml.inf2.8xlarge"]``)."""

    cores: int = Field(default=0, ge=0)
    """NeuronCores or GPUs."""
    has_local_disk: bool = False


class Facts(_Given):
    """What no template contains. Every field is optional; a finding names the one that it needs."""

    account: str | None = None
    region: str | None = None
    zones: tuple[str, ...] = ()
    """The region's availability zones, as the account names them."""
    consumer_cidrs: tuple[CidrBlock, ...] = ()
    """Address blocks of every client behind the private link."""
    host_names: tuple[str, ...] = ()
    """Names that clients connect to."""
    private_dns_verified: bool = False
    """Whether the endpoint service's domain is verified and the connection accepted: the second phase."""
    answer_deadline_s: float | None = Field(default=None, gt=0)
    """For the whole answer, its stream included."""
    existing_endpoints: tuple[str, ...] = ()
    """Services (``kms``, ``ecr.api``…) that have an endpoint in the VPC, outside these templates."""
    certificates: Mapping[str, tuple[str, ...]] = {}
    """ARN of a certificate, or the parameter with it = the names in it."""
    parameters: Mapping[str, str] = {}
    """Values of templates' parameters, by name."""
    images: tuple[ImageFact, ...] = ()
    artifacts: tuple[ArtifactFact, ...] = ()
    instances: Mapping[str, InstanceFact] = {}
    """By name of the instance type. Other types are judged by what AWS documents of their family."""

    def as_toml(self) -> str:
        """Return the file that ``load_facts`` reads back as the same facts."""
        # A JSON string, number or list of them is TOML too.
        lines: list[str] = []
        tables: list[str] = []
        for name, value in self.model_dump(exclude_defaults=True, mode="json").items():
            if isinstance(value, dict):
                tables += ["", f"[{name}]", *_pairs(cast("dict[str, Any]", value))]
            elif name in ("images", "artifacts"):
                for row in value:
                    tables += ["", f"[[{name}]]", *_pairs(row)]
            else:
                lines.append(f"{name} = {json.dumps(value)}")
        return "\n".join([*lines, *tables]) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{name if re.fullmatch(r'[A-Za-z0-9_-]+', name) else json.dumps(name)} = {_inline(value)}"
        for name, value in table.items()
    ]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(cast("dict[str, Any]", value))) + " }"
    return json.dumps(value)


class IntendedPath(_Given):
    """TCP connections that the owner intends, between two kinds of stations (``[[paths]]``)."""

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


def load_facts(path: Path) -> Facts:
    """Read a facts file. Raises InvalidInputError naming file and key."""
    return _load(path, Facts, called="facts file")


def load_intended_paths(path: Path) -> IntendedPaths:
    """Read a file of intended paths. Raises InvalidInputError naming file and key."""
    return _load(path, IntendedPaths, called="file of intended paths")


_Read = TypeVar("_Read", bound=_Given)


def _load(path: Path, kind: type[_Read], *, called: str) -> _Read:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return kind.model_validate_json(json.dumps(data, default=str), strict=True)
    except FileNotFoundError:
        raise InvalidInputError(f"{path}: there is no such {called}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise InvalidInputError(f"{path}: {problems}") from None
