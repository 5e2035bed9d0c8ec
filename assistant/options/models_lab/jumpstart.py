"""Candidates from SageMaker JumpStart: ``jumpstart.lock.toml``, and the parser of JumpStart's own files.

A row names a model by its id, and is in one of three states:

- *resolved*: it has ``facts``. ``assistant models candidates`` has read everything else about the model
  (image, artifact, licence, instances) from the region's JumpStart bucket. It may be deployed (``usable``).
- *published*: it has ``published``, what a public file says, and not ``facts``. With ``card``, what the
  model's page says, it can be priced, adopted (a manifest is written: ``adoptable``) and synthesized; a
  deployment asks for the hash that only the bucket gives.
- *unresolved*: it has neither, and nothing uses it.

How ``assistant models candidates`` resolves a row from the bucket's files: ``newest`` finds the model's
specification in the manifest, ``Specification`` reads it, and ``Specification.facts`` adds the files of the
artifact.

The bucket's files, as the SageMaker SDK reads them (github.com/aws/sagemaker-python-sdk, commit a2481266,
``sagemaker-core/src/sagemaker/core/jumpstart``): ``constants.py`` names the manifest,
``region_config.json`` the buckets, ``types.py`` the fields of a specification, ``artifacts/image_uris.py``
how an image follows from region and instance, ``artifacts/model_uris.py`` that a prepacked artifact comes
first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.tenant.deployment import ArtifactName
from assistant.tenant.manifests import Dtype, rewrite
from assistant.tenant.toml_file import StrictModel, read_strict

LOCK_FILE = "jumpstart.lock.toml"
MANIFEST_KEY = "models_manifest.json"
_Instance = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
_Folder = Annotated[str, Field(pattern=r"^s3://[a-z0-9.-]+/.+/$")]


def content_bucket(region: str) -> str:
    """Return the name of the region's JumpStart bucket (``region_config.json`` of the SDK)."""
    return f"jumpstart-cache-prod-{region}"


class Listed(StrictModel):
    """An object of the artifact, as S3 lists it."""

    key: str
    """Relative to the artifact's folder."""
    size_bytes: int
    etag: str
    """As S3 gives it: for an object that was put in parts it is no hash of the content."""


def listing_sha256(objects: Sequence[Listed]) -> str:
    """Return the SHA-256 of the sorted lines "key size etag": it changes when an object does."""
    lines = sorted(f"{listed.key} {listed.size_bytes} {listed.etag}\n" for listed in objects)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Architecture(StrictModel):
    """From the artifact's ``config.json``; what it does not say is None."""

    layers: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    hidden_size: int | None = None
    max_tokens: int | None = None
    dtype: Dtype | None = None


class Published(StrictModel):
    """How JumpStart serves a model in one region, on one instance type: a public file says it, too."""

    region: str
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    image: str = Field(pattern=r"^\d{12}\.dkr\.ecr\.[a-z0-9.-]+/[a-z0-9._/-]+:[A-Za-z0-9_.-]+$")
    artifact: _Folder
    instance: _Instance
    accelerators: int | None = None
    """Accelerators that the container uses; None where nothing says it."""
    environment: Mapping[str, str] = {}
    """Environment variables of the container, on ``instance``."""


class Card(StrictModel):
    """What the model is: by the files of its artifact, or by its own page until they are read."""

    licence: str = Field(min_length=1)
    """As the specification writes it."""
    files: tuple[str, ...] = Field(min_length=1)
    weights_bytes: int = Field(ge=1)
    architecture: Architecture = Architecture()


class Facts(Published, Card):
    """What JumpStart's bucket says of a model in one region, on one instance type."""

    listing_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Candidate(StrictModel):
    """A row of ``jumpstart.lock.toml``."""

    id: ArtifactName
    """JumpStart's, and the name of the manifest once it is adopted."""
    task: Literal["llm", "embedding"]
    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """``owner/name`` on the Hugging Face Hub."""
    family: str
    purpose: str
    instance: _Instance | None = None
    """Instance type to try it on; the specification's default when absent."""
    facts: Facts | None = None
    published: Published | None = None
    """Written by people, from a public file."""
    card: Card | None = None
    """Written by people, from the model's own page."""

    @property
    def served(self) -> Published | None:
        """How it is served, as far as anybody said it."""
        return self.facts or self.published

    @property
    def state(self) -> Literal["resolved", "published", "unresolved"]:
        return "resolved" if self.facts else "published" if self.published else "unresolved"


class CandidateLock(StrictModel):
    """``jumpstart.lock.toml``."""

    source: str
    """Where the ids were read."""
    allowed_licences: tuple[str, ...]
    """As specifications write them. A model under any other is refused."""
    candidate: tuple[Candidate, ...]

    def row(self, name: str) -> Candidate:
        """Return one row. Raises NotFoundError with the known ids."""
        for row in self.candidate:
            if row.id == name:
                return row
        known = ", ".join(row.id for row in self.candidate)
        raise NotFoundError(f"{LOCK_FILE} has no candidate {name}; it has {known}. Add a row, or take one.")

    def usable(self, name: str) -> tuple[Candidate, Facts]:
        """Return a row that may be deployed. Raises NotFoundError, ConfigurationError with what to do."""
        row = self.row(name)
        if row.facts is None:
            raise ConfigurationError(
                f"{name} is a candidate without facts ({row.state} in {LOCK_FILE}). Where JumpStart's bucket "
                "can be reached, run: assistant models candidates --region REGION"
            )
        self._check_licence(name, row.facts)
        return row, row.facts

    def adoptable(self, name: str) -> tuple[Candidate, Published, Card, str | None]:
        """Return a row that a manifest may be written from, how it is served, what the model is, and the
        hash of its files (``listing_sha256``), None while nobody read them: of a published row with a card.

        Raises NotFoundError, ConfigurationError with what to do.
        """
        row = self.row(name)
        if row.facts is not None or row.published is None or row.card is None:
            row, facts = self.usable(name)
            return row, facts, facts, facts.listing_sha256
        self._check_licence(name, row.card)
        return row, row.published, row.card, None

    def _check_licence(self, name: str, card: Card) -> None:
        if card.licence not in self.allowed_licences:
            raise ConfigurationError(
                f'{name}: its licence is "{card.licence}", and allowed_licences of {LOCK_FILE} has '
                f"{', '.join(self.allowed_licences)}. Add it there once it was read, or take another."
            )


def load_candidates(path: Path) -> CandidateLock:
    """Read the lock. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, CandidateLock)


class TrialPlace(StrictModel):
    """Where a tenant's throw-away endpoints run: an output of its models stack, as JSON."""

    endpoints: tuple[str, ...]
    """Names of endpoint, configuration and model, for one trial each. The roles act on no other."""
    role_arn: str
    """SageMaker runs the container by it."""
    clean_up_role_arn: str
    """EventBridge Scheduler deletes by it."""
    bucket: str
    key_arn: str
    subnets: tuple[str, ...]
    security_group: str


TRIAL_OUTPUT = "TrialPlace"


def write_facts(path: Path, found: Mapping[str, Facts]) -> None:
    """Write facts into rows by their ids; comments and everything else stay. The file is replaced whole or
    not. Raises ConfigurationError when it would be invalid."""
    import tomlkit  # not in the service's image

    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    for row in document["candidate"]:
        if (facts := found.get(str(row["id"]))) is not None:
            row["facts"] = facts.model_dump(mode="json", exclude_none=True)
    rewrite(path, tomlkit.dumps(document), CandidateLock)


# --- JumpStart's own files --------------------------------------------------------------------------------
class Header(BaseModel):
    """One entry of the manifest. AWS adds fields at any time: those that nothing here reads are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    model_id: str
    version: str = Field(pattern=r"^\d+(\.\d+)*$")
    spec_key: str
    deprecated: bool = False


class _Spec(BaseModel):
    """A specification with the fields of one configuration in place of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: str
    license: str
    deprecated: bool = False
    inference_vulnerable: bool = False
    gated_bucket: bool = False
    hosting_eula_key: str | None = None
    hosting_artifact_key: str
    hosting_artifact_compression_type: str
    hosting_prepacked_artifact_key: str | None = None
    hosting_instance_type_variants: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """``{"regional_aliases": {REGION: {"gpu_image_uri": IMAGE}},
    "variants": {"ml.g5.xlarge" or "g5": {"regional_properties": {"image_uri": "$gpu_image_uri"},
    "properties": {"artifact_key": …, "environment_variables": …, "resource_requirements": …}}}}``."""
    hosting_resource_requirements: Mapping[str, int] = {}
    default_inference_instance_type: str
    supported_inference_instance_types: tuple[str, ...]
    inference_environment_variables: tuple[Mapping[str, Any], ...] = ()


def newest(manifest: bytes, name: str) -> Header:
    """Return a model's newest version that is not deprecated; its ``spec_key`` is that of the specification.

    Raises NotFoundError, ConfigurationError.
    """
    try:
        headers = _HEADERS.validate_json(manifest)
    except ValidationError as error:
        raise ConfigurationError(f"{MANIFEST_KEY}: not as JumpStart writes it: {_fault(error)}.") from None
    offered = [header for header in headers if header.model_id == name and not header.deprecated]
    if not offered:
        raise NotFoundError(f"{name}: JumpStart does not offer this id in this region, or has deprecated it.")
    return max(offered, key=lambda header: [int(part) for part in header.version.split(".")])


_HEADERS = TypeAdapter(list[Header])


class Specification:
    """One model's specification, read for one region and one instance type. ``prefix`` is the folder of the
    model's files in the region's bucket: the caller lists them, and gives the list to ``facts``."""

    def __init__(self, body: bytes, *, region: str, instance: str | None) -> None:
        """``instance``: None for the specification's default. Raises ConfigurationError."""
        try:
            self._spec = spec = _Spec.model_validate(_configured(json.loads(body)))
        except ValidationError as error:
            raise ConfigurationError(f"its specification is not complete: {_fault(error)}.") from None
        except (ValueError, KeyError, AttributeError):
            raise ConfigurationError("its specification is not as JumpStart writes them.") from None
        self._region, self._instance = region, instance or spec.default_inference_instance_type
        variants = spec.hosting_instance_type_variants.get("variants", {})
        names = (self._instance, self._instance.split(".")[1])  # type and family: "ml.g5.xlarge", "g5"
        self._variants = [variants[name] for name in names if name in variants]
        # The instance type's artifact goes over its family's and the model's; a prepacked one comes first.
        properties = [variant.get("properties", {}) for variant in self._variants]
        names = ("prepacked_artifact_key", "artifact_key")
        artifacts = [of_variant.get(name) for of_variant in properties for name in names]
        artifacts += [spec.hosting_prepacked_artifact_key, spec.hosting_artifact_key]
        self.prefix = next(artifact for artifact in artifacts if artifact)
        if (refusal := next(self._refusals(), None)) is not None:
            raise ConfigurationError(refusal)

    def _refusals(self) -> Iterator[str]:
        """Yield why the model cannot be deployed, and what to do."""
        spec = self._spec
        if spec.deprecated or spec.inference_vulnerable:
            yield "JumpStart calls it deprecated or vulnerable."
        if spec.gated_bucket:
            yield (
                f'its artifact ("{spec.license}") lies in the gated bucket, which only SageMaker reads, and '
                "no closed VPC reaches. Fetch the weights from their publisher (model_artifacts/README.md)."
            )
        if spec.hosting_eula_key is not None:
            yield (
                f"it asks for the acceptance of {spec.hosting_eula_key}. Fetch the weights from their "
                "publisher (model_artifacts/README.md)."
            )
        if self._instance not in spec.supported_inference_instance_types:
            yield (
                f"it does not run on {self._instance}; write one of these as instance: "
                f"{', '.join(spec.supported_inference_instance_types)}."
            )
        if spec.hosting_artifact_compression_type != "None" or not self.prefix.endswith("/"):
            yield f"{self.prefix} is one packed file; only folders of files are deployed."

    def facts(self, objects: Sequence[Listed], config: bytes) -> Facts:
        """Return the facts that the row gets. ``objects``: the listing below ``prefix``. ``config``: the
        artifact's ``config.json``, or ``{}``.

        Raises ConfigurationError.
        """
        spec, region = self._spec, self._region
        aliases = spec.hosting_instance_type_variants.get("regional_aliases", {}).get(region, {})
        images = [variant.get("regional_properties", {}).get("image_uri", "") for variant in self._variants]
        image_aliases = [image.removeprefix("$") for image in images]
        needs, environment = dict(spec.hosting_resource_requirements), dict[str, str]()
        for variable in spec.inference_environment_variables:
            if variable.get("required_for_model_class"):
                environment[str(variable.get("name"))] = str(variable.get("default"))
        for variant in reversed(self._variants):  # what the type says goes over what its family says
            properties = variant.get("properties", {})
            needs |= properties.get("resource_requirements", {})
            environment |= properties.get("environment_variables", {})
        bucket = content_bucket(region)
        weights = [listed for listed in objects if listed.key.endswith((".safetensors", ".bin", ".gguf"))]
        try:
            return Facts(
                region=region,
                version=spec.version,
                image=next((aliases[alias] for alias in image_aliases if alias in aliases), ""),
                artifact=f"s3://{bucket}/{self.prefix}",
                listing_sha256=listing_sha256(objects),
                files=tuple(sorted(listed.key for listed in objects)),
                weights_bytes=sum(listed.size_bytes for listed in weights),
                licence=spec.license,
                instance=self._instance,
                accelerators=needs.get("num_accelerators"),
                environment=environment,
                architecture=_architecture(json.loads(config)),
            )
        except ValidationError as error:
            raise ConfigurationError(
                f"on {self._instance} in {region} its facts are not complete: {_fault(error)}."
            ) from None


def _configured(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a specification, then of each component of a configuration; the later field wins.

    A model has several, ranked. The first is taken that needs no further model: one with speculative decoding
    brings a draft model of its own.
    """
    for name in spec.get("inference_config_rankings", {}).get("overall", {}).get("rankings", []):
        names = spec["inference_configs"][name]["component_names"]
        parts = [spec["inference_config_components"][part] for part in names]
        if not any(part.get("hosting_additional_data_sources") for part in parts):
            return {key: value for part in (spec, *parts) for key, value in part.items()}
    return spec


def _architecture(config: Mapping[str, Any]) -> Architecture:
    """Return what a ``config.json`` of Hugging Face's transformers says. Raises ValidationError."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return Architecture(
        layers=config.get("num_hidden_layers"),
        kv_heads=config.get("num_key_value_heads", heads),
        head_size=config.get("head_dim") or (hidden and heads and hidden // heads),
        hidden_size=hidden,
        max_tokens=config.get("max_position_embeddings"),
        dtype=config.get("dtype", config.get("torch_dtype")),
    )


def _fault(error: ValidationError) -> str:
    """Return the first thing that is wrong: "licence: Field required"."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
