"""Candidates from SageMaker JumpStart: ``jumpstart.lock.toml``, and the parser of JumpStart's own files.

A row names a model by its id. Everything else about it (image, artifact, licence, instances) is read from the
region's JumpStart bucket by ``assistant models candidates`` and written into the row as ``facts``; a row
without them is unresolved, and nothing deploys, adopts or synthesizes it.

The bucket's files, as the SageMaker SDK reads them (github.com/aws/sagemaker-python-sdk, commit a2481266,
``sagemaker-core/src/sagemaker/core/jumpstart``): ``constants.py`` names the manifest,
``region_config.json`` the buckets, ``types.py`` the fields of a specification, ``artifacts/image_uris.py``
how an image follows from region and instance, ``artifacts/model_uris.py`` that a prepacked artifact comes
first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from assistant.domain.errors import ConfigurationError, ConflictError, NotFoundError
from assistant.settings.deployment import ArtifactName
from assistant.settings.model_artifacts import Dtype
from assistant.settings.toml_file import StrictModel, read_strict

LOCK_FILE = "jumpstart.lock.toml"
MANIFEST_KEY = "models_manifest.json"
_Instance = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
_Folder = Annotated[str, Field(pattern=r"^s3://[a-z0-9.-]+/.+/$")]
_Model = TypeVar("_Model", bound=BaseModel)


def content_bucket(region: str) -> str:
    """Return the name of the region's JumpStart bucket (``region_config.json`` of the SDK)."""
    return f"jumpstart-cache-prod-{region}"


class Listed(StrictModel):
    """An object of the artifact, as S3 lists it."""

    key: str
    """Relative to the artifact's folder."""
    size_bytes: int
    etag: str
    """S3's: of an object that was put in parts it is no hash of the content."""


def listing_sha256(objects: Sequence[Listed]) -> str:
    """Return the SHA-256 of the sorted lines "key size etag": it changes when an object does."""
    lines = sorted(f"{each.key} {each.size_bytes} {each.etag}\n" for each in objects)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Architecture(StrictModel):
    """From the artifact's ``config.json``; what it does not say is None."""

    layers: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    hidden_size: int | None = None
    max_tokens: int | None = None
    dtype: Dtype | None = None


class Facts(StrictModel):
    """What JumpStart says of a model in one region, on one instance type."""

    region: str
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    image: str = Field(pattern=r"^\d{12}\.dkr\.ecr\.[a-z0-9.-]+/[a-z0-9._/-]+:[A-Za-z0-9_.-]+$")
    artifact: _Folder
    listing_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    files: tuple[str, ...] = Field(min_length=1)
    weights_bytes: int = Field(ge=1)
    licence: str = Field(min_length=1)
    """As the specification writes it."""
    eula: str | None = None
    """Address of the licence agreement that must be accepted."""
    instance: _Instance
    min_memory_mb: int | None = None
    accelerators: int | None = None
    environment: Mapping[str, str] = {}
    """Of the container, on ``instance``."""
    startup_s: int | None = None
    download_s: int | None = None
    architecture: Architecture = Architecture()


class Candidate(StrictModel):
    id: ArtifactName
    """JumpStart's, and the name of the manifest once it is adopted."""
    task: Literal["llm", "embedding"]
    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """``owner/name`` on the Hugging Face Hub."""
    family: str
    purpose: str
    instance: _Instance | None = None
    """Instance type to try it on; the specification's default when absent."""
    eula_accepted: bool = False
    """Written by ``assistant models candidates --accept-eula ID``."""
    resolved: bool
    facts: Facts | None = None

    @model_validator(mode="after")
    def _has_facts_when_resolved(self) -> Self:
        if self.resolved != (self.facts is not None):
            raise ValueError("resolved is true for a row with facts and false for one without")
        return self


class CandidateLock(StrictModel):
    """``jumpstart.lock.toml``."""

    source: str
    """Where the ids were read."""
    allowed_licences: tuple[str, ...]
    """As specifications write them. A model under any other is refused."""
    candidate: tuple[Candidate, ...]

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        ids = [row.id for row in self.candidate]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"more than one row has the id {', '.join(twice)}")
        return self

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
            raise ConfigurationError(_unresolved(name))
        facts = row.facts
        if facts.licence not in self.allowed_licences:
            raise ConfigurationError(
                f'{name}: its licence is "{facts.licence}", and allowed_licences of {LOCK_FILE} has '
                f"{', '.join(self.allowed_licences)}. Add it there once it was read, or take another."
            )
        if facts.eula and not row.eula_accepted:
            raise ConfigurationError(
                f"{name} asks for the acceptance of {facts.eula}. Read it; then: "
                f"assistant models candidates --accept-eula {name}"
            )
        return row, facts


def _unresolved(name: str) -> str:
    return (
        f"{name} is a candidate without facts (resolved = false in {LOCK_FILE}). Where JumpStart's bucket "
        "can be reached, run: assistant models candidates --region REGION"
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


def refuse_unresolved(path: Path, names: Iterable[str]) -> None:
    """Raise ConfigurationError when an artifact that a tenant file names is an unresolved candidate."""
    rows = {row.id: row for row in load_candidates(path).candidate}
    if found := [name for name in names if name in rows and not rows[name].resolved]:
        raise ConfigurationError(_unresolved(found[0]))


def write_rows(path: Path, before: bytes, updates: Mapping[str, Mapping[str, Any]]) -> None:
    """Write keys into rows by id; comments and everything else stay. The file is replaced whole or not.

    ``before``: the file as it was read. Raises ConflictError when it changed since, ConfigurationError when
    it would be invalid.
    """
    import tomlkit  # not in the service's image

    document: Any = tomlkit.parse(before.decode())
    for row in document["candidate"]:
        for key, value in updates.get(str(row["id"]), {}).items():
            row[key] = value
    written = path.with_name(f".{path.name}.new")
    written.write_text(tomlkit.dumps(document), encoding="utf-8")
    try:
        load_candidates(written)
    except ConfigurationError as error:
        written.unlink()
        raise ConfigurationError(f"{path} was not written: {error.message}") from None
    if path.read_bytes() != before:
        written.unlink()
        raise ConflictError(f"{path} was changed meanwhile, and not written. Run the command again.")
    written.replace(path)


# --- JumpStart's own files --------------------------------------------------------------------------------
class _Theirs(BaseModel):
    """AWS adds fields at any time: those that nothing here reads are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Header(_Theirs):
    """One entry of the manifest."""

    model_id: str
    version: str
    spec_key: str
    deprecated: bool = False

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(part) if part.isdecimal() else -1 for part in self.version.split("."))


class _Properties(_Theirs):
    environment_variables: Mapping[str, str] = {}
    resource_requirements: Mapping[str, int] = {}
    artifact_key: str | None = None
    prepacked_artifact_key: str | None = None


class _Variant(_Theirs):
    properties: _Properties = _Properties()
    regional_properties: Mapping[str, str] = {}


class _Variants(_Theirs):
    regional_aliases: Mapping[str, Mapping[str, str]] = {}
    variants: Mapping[str, _Variant] = {}


class _Variable(_Theirs):
    name: str
    default: str | int | float | bool
    required_for_model_class: bool = False


class _Spec(_Theirs):
    model_id: str
    version: str
    license: str
    deprecated: bool = False
    inference_vulnerable: bool = False
    gated_bucket: bool = False
    hosting_eula_key: str | None = None
    hosting_artifact_key: str
    hosting_artifact_compression_type: str
    hosting_prepacked_artifact_key: str | None = None
    hosting_instance_type_variants: _Variants
    hosting_resource_requirements: Mapping[str, int] = {}
    default_inference_instance_type: str
    supported_inference_instance_types: tuple[str, ...]
    inference_environment_variables: tuple[_Variable, ...] = ()
    deploy_kwargs: Mapping[str, int | str | bool] = {}


def read_manifest(body: bytes) -> list[Header]:
    """Return the entries of ``models_manifest.json``. Raises ConfigurationError."""
    try:
        return TypeAdapter(list[Header]).validate_json(body)
    except ValidationError as error:
        raise ConfigurationError(f"{MANIFEST_KEY}: not as JumpStart writes it: {_fault(error)}.") from None


def newest(headers: Sequence[Header], name: str) -> Header:
    """Return the newest version of a model that is not deprecated. Raises NotFoundError."""
    offered = [header for header in headers if header.model_id == name and not header.deprecated]
    if not offered:
        raise NotFoundError(f"{name}: JumpStart does not offer this id in this region, or has deprecated it.")
    return max(offered, key=lambda header: header.order)


class Specification:
    """One model's specification, read for one region and one instance type.

    A model has several configurations, ranked. The first is taken that needs no further model: one with
    speculative decoding brings a draft model of its own.
    """

    def __init__(self, body: bytes, *, region: str, instance: str | None) -> None:
        """Raises ConfigurationError naming what is missing or refused."""
        try:
            self._spec = spec = _Spec.model_validate(_configured(json.loads(body)))
        except ValidationError as error:
            raise ConfigurationError(f"its specification is not complete: {_fault(error)}.") from None
        except ValueError:
            raise ConfigurationError("its specification is not JSON.") from None
        if spec.deprecated or spec.inference_vulnerable:
            raise ConfigurationError("JumpStart calls it deprecated or vulnerable. Take another.")
        if spec.gated_bucket:
            raise ConfigurationError(
                f'its artifact ("{spec.license}") lies in the gated bucket, which only SageMaker reads, and no '
                "closed VPC reaches. Fetch the weights from their publisher (model_artifacts/README.md)."
            )
        self._region, self.instance = region, instance or spec.default_inference_instance_type
        supported = spec.supported_inference_instance_types
        if self.instance not in supported:
            raise ConfigurationError(
                f"it does not run on {self.instance}; it runs on {', '.join(supported)}. Choose one."
            )
        variants = spec.hosting_instance_type_variants.variants
        names = (self.instance.split(".")[1], self.instance)
        self._variants = [variants[name] for name in names if name in variants]
        keys = (spec.hosting_prepacked_artifact_key, spec.hosting_artifact_key)
        own = [variant.properties for variant in reversed(self._variants)]
        self.prefix = next(
            key
            for key in (*(each.prepacked_artifact_key or each.artifact_key for each in own), *keys)
            if key is not None
        )
        if spec.hosting_artifact_compression_type != "None" or not self.prefix.endswith("/"):
            raise ConfigurationError(f"{self.prefix} is one packed file; only folders of files are deployed.")

    def _image(self) -> str:
        aliases = self._spec.hosting_instance_type_variants.regional_aliases.get(self._region, {})
        for variant in reversed(self._variants):
            if image := aliases.get(variant.regional_properties.get("image_uri", "").removeprefix("$")):
                return image
        raise ConfigurationError(f"it names no image for {self.instance} in {self._region}.")

    def facts(self, objects: Sequence[Listed], config: bytes | None) -> Facts:
        """Return what the row gets. ``config``: the artifact's ``config.json``, None where there is none.

        Raises ConfigurationError.
        """
        spec = self._spec
        environment = {
            each.name: str(each.default)
            for each in spec.inference_environment_variables
            if each.required_for_model_class
        }
        needs = dict(spec.hosting_resource_requirements)
        for variant in self._variants:
            environment |= variant.properties.environment_variables
            needs |= variant.properties.resource_requirements
        bucket = content_bucket(self._region)
        weights = [each for each in objects if each.key.endswith((".safetensors", ".bin", ".gguf"))]
        values: Mapping[str, Any] = {
            "region": self._region,
            "version": spec.version,
            "image": self._image(),
            "artifact": f"s3://{bucket}/{self.prefix}",
            "listing_sha256": listing_sha256(objects),
            "files": sorted(each.key for each in objects),
            "weights_bytes": sum(each.size_bytes for each in weights),
            "licence": spec.license,
            "eula": spec.hosting_eula_key and f"s3://{bucket}/{spec.hosting_eula_key}",
            "instance": self.instance,
            "min_memory_mb": needs.get("min_memory_mb"),
            "accelerators": needs.get("num_accelerators"),
            "environment": environment,
            "startup_s": spec.deploy_kwargs.get("container_startup_health_check_timeout"),
            "download_s": spec.deploy_kwargs.get("model_data_download_timeout"),
            "architecture": {} if config is None else _architecture(config),
        }
        try:
            return Facts.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(f"its facts are not complete: {_fault(error)}.") from None


def _configured(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a specification with those of its configuration on top."""
    rankings = spec.get("inference_config_rankings", {}).get("overall", {}).get("rankings", [])
    for name in rankings:
        names = spec["inference_configs"][name]["component_names"]
        parts = [spec["inference_config_components"][part] for part in names]
        if not any(part.get("hosting_additional_data_sources") for part in parts):
            return {key: value for part in (spec, *parts) for key, value in part.items()}
    return spec


def _architecture(config: bytes) -> Mapping[str, Any]:
    """Return what a ``config.json`` of Hugging Face's transformers says, by our names."""
    read = cast("Mapping[str, Any]", json.loads(config))
    hidden, heads = read.get("hidden_size"), read.get("num_attention_heads")
    return {
        "layers": read.get("num_hidden_layers"),
        "kv_heads": read.get("num_key_value_heads", heads),
        "head_size": read.get("head_dim") or (hidden and heads and hidden // heads),
        "hidden_size": hidden,
        "max_tokens": read.get("max_position_embeddings"),
        "dtype": read.get("dtype", read.get("torch_dtype")),
    }


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
