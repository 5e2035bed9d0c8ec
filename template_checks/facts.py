"""What no template holds, in a TOML file: ``assistant check TEMPLATE… --facts FILE``."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import ConfigurationError


def _is_block(text: str) -> str:
    ip_network(text)
    return text


CidrBlock = Annotated[str, AfterValidator(_is_block)]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageFact(_Facts):
    """One row of the image table (``[[images]]``)."""

    repository: str
    """Without registry and tag: ``huggingface-vllm-inference-neuronx``."""
    accounts: Mapping[str, str] = {}
    """Region = account that publishes it there; none when it is your own, in the deployment's account."""
    architecture: Literal["X86_64", "ARM64"] | None = None


class ArtifactFact(_Facts):
    """What one model artifact was compiled for, from its manifest (``[[artifacts]]``)."""

    name: str
    uri: str | None = None
    """A part of the S3 address of its model data that no other artifact's has; needless for one alone."""
    batch_size: int | None = Field(default=None, ge=1)
    sequence_length: int | None = Field(default=None, ge=1)
    tensor_parallel: int | None = Field(default=None, ge=1)


class Facts(_Facts):
    """Everything is optional; what is missing is ``not proven`` where a check asks for it."""

    account: str | None = None
    """Of the deployment; for templates that do not say it."""
    region: str | None = None
    zones: tuple[str, ...] = ()
    """The region's availability zones, as the account names them."""
    consumer_cidrs: tuple[CidrBlock, ...] = ()
    """Of every client behind the private link."""
    host_names: tuple[str, ...] = ()
    """What clients dial."""
    private_dns_verified: bool = False
    """Whether the endpoint service's domain is verified and the connection accepted: the second phase."""
    answer_deadline_s: float | None = Field(default=None, gt=0)
    """For the whole answer, its stream included."""
    existing_endpoints: tuple[str, ...] = ()
    """Services (``kms``, ``ecr.api``…) whose endpoints stand in the VPC outside these templates."""
    certificates: Mapping[str, tuple[str, ...]] = {}
    """ARN of a certificate, or the parameter that brings it = the names in it."""
    parameters: Mapping[str, str] = {}
    """Values of templates' parameters, by name."""
    images: tuple[ImageFact, ...] = ()
    artifacts: tuple[ArtifactFact, ...] = ()

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
    return [f"{_key(name)} = {_inline(value)}" for name, value in table.items()]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(cast("dict[str, Any]", value))) + " }"
    return json.dumps(value)


def load_facts(path: Path) -> Facts:
    """Read a facts file. Raises ConfigurationError naming file and key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return Facts.model_validate_json(json.dumps(data, default=str), strict=True)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such facts file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigurationError(f"{path}: {said}") from None
