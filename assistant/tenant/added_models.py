"""Models that were added on this machine (``assistant models add``, ``assistant models use --url``), and the
choice of each tenant.

``<state>/models/<name>/manifest.toml`` describes an added model; its weights are not copied.
``<state>/models/choices.json`` has each tenant's choice. Neither is read by a deployment.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import orjson
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import AnsweringTable
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import StrictModel, read_strict

MANIFEST_FILE = "manifest.toml"
CHOICES_FILE = "choices.json"
Task = Literal["embedding", "generation"]
_SHOWN_DIGITS = 12
"""Of a hash."""
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
"""Name of a model, of its folder, and in records of answers."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Described(StrictModel):
    schema_version: Literal[1] = 1
    name: ModelName

    def as_toml(self) -> str:
        """Return the manifest file."""
        import tomlkit  # not in the service's image, which adds no model

        return tomlkit.dumps(self.model_dump(mode="json", exclude_none=True))


class AddedEmbedding(_Described):
    path: Path
    """Folder of the model. Absolute."""
    sha256: Sha256
    """Hash of the weights at ``path``; other bytes are refused."""
    task: Literal["embedding"] = "embedding"
    dimensions: int = Field(ge=1)
    max_tokens: int = Field(ge=16)
    """Longest input of the model, special tokens included."""
    pooling: Literal["mean", "cls"]
    cosine_unrelated: float | None = None
    """Mean cosine of a question with unrelated text, measured when the model is built. None in a manifest of
    an earlier release: the model must be added again before a tenant can use it."""
    cosine_related: float | None = None
    """Mean cosine of a question with the text that answers it."""

    @property
    def endpoint(self) -> str:
        """Name of the model's local endpoint, unique to the model."""
        return f"local-{self.sha256[:16]}"

    @property
    def origin(self) -> str:
        """The first digits of the weights' hash."""
        return self.sha256[:_SHOWN_DIGITS]


class ServedLlm(_Described):
    """An LLM behind an OpenAI-compatible chat server, or a SageMaker endpoint; its weights are not known.

    A server outside this machine and its private networks must be named by ``sends_questions_to``, because
    prompts hold customers' questions and the company's documents.
    """

    task: Literal["generation"] = "generation"
    kind: Literal["served"] = "served"
    model: str = Field(pattern=r"^[!-~]{1,200}$")
    """The model's name at the server, or the name of the SageMaker endpoint."""
    url: str | None = None
    """Base URL of the chat server's API, as ``http://127.0.0.1:11434/v1``."""
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,40}$")
    """AWS region of the SageMaker endpoint."""
    recording: Path | None = None
    """Folder of recorded answers that are played in place of a model. One of the three is given."""
    key_file: Path | None = None
    """File with the server's key, which only the service reads. Absolute."""
    sends_questions_to: str | None = None
    tokenizer: Path | None = None
    """The model's ``tokenizer.json``, absolute; without it tokens are estimated from characters."""
    context_tokens: int = Field(ge=256)
    """Prompt and answer of one stream together, as the server says or the person who added it."""
    answer_tokens: int | None = None
    """Longest answer in tokens; None: as the tenant file says."""
    token_ratio: float | None = Field(default=None, gt=0)
    """Tokens of the server's own count for each that ``CharacterTokenCounter`` estimates, the highest of the
    prompts that it was asked; None: it tells no count."""
    answering: AnsweringTable = AnsweringTable()

    @model_validator(mode="after")
    def _is_a_place_that_questions_may_go_to(self) -> Self:
        if sum(place is not None for place in (self.url, self.region, self.recording)) != 1:
            raise ValueError("give either the url of a chat server or the region of a SageMaker endpoint")
        if self.url is not None:
            _check_place(self.url, named=self.sends_questions_to)
        return self

    @property
    def endpoint(self) -> str:
        """Name of the model, unique to server and model."""
        return f"served-{hashlib.sha256(self.origin.encode()).hexdigest()[:16]}"

    @property
    def origin(self) -> str:
        """Where the model is, for people."""
        if self.recording is not None:
            return "recorded answers, not live"
        where = f"SageMaker in {self.region}" if self.url is None else self.url
        return f"{self.model} at {where}"


def _check_place(url: str, *, named: str | None) -> None:
    """Raise ValueError unless the URL is a plain base URL of a host that questions may be sent to: one of
    private networks, or the one that ``named`` (--sends-questions-to) names."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_plain = all("!" <= character <= "~" for character in url) and parts.port != 0
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not is_plain:
        raise ValueError(f"{url} is not the base URL of a server; write it as http://HOST:PORT/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "the URL holds a user or password; put the key into a file and name it by --key-file"
        )
    if named is not None and named.lower() != host:
        raise ValueError(f"--sends-questions-to {named} is not the host of the URL, {host}")
    if named is None and not _is_private(host):
        raise ValueError(
            f"{host} is outside this machine and its private networks, and prompts hold customers' questions "
            f"and your documents. To send them there, add --sends-questions-to {host}. On AWS nothing leaves "
            "the VPC unless the tenant file declares it as [[reach]]"
        )


def _is_private(host: str) -> bool:
    """Return whether the host is localhost or a loopback or private address; any other name is not."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


AddedModel = AddedEmbedding | ServedLlm
_KINDS: Mapping[str, type[AddedModel]] = {'kind = "served"': ServedLlm, 'task = "embedding"': AddedEmbedding}
"""Line of a manifest = kind of its model."""


class TenantModels(StrictModel):
    """One tenant's choice of added models. None means the packaged model."""

    embedding: AddedEmbedding | None = None
    generation: ServedLlm | None = None

    def applied_to(self, tenant: TenantConfig) -> TenantConfig:
        """Return the tenant with names, sizes and endpoints of the chosen models."""
        update: dict[str, Any] = {}
        if (embedding := self.embedding) is not None:
            update["embedding"] = tenant.embedding.model_copy(
                update={
                    "endpoint": embedding.endpoint,
                    "model": embedding.name,
                    "dimensions": embedding.dimensions,
                    "max_tokens": min(tenant.embedding.max_tokens, embedding.max_tokens),
                    "cosine_unrelated": embedding.cosine_unrelated,
                    "cosine_related": embedding.cosine_related,
                }
            )
        if (llm := self.generation) is not None:
            update["generation"] = tenant.generation.model_copy(
                update={
                    "endpoint": llm.endpoint,
                    "model": llm.name,
                    "context_tokens": llm.context_tokens,
                    "max_tokens": llm.answer_tokens
                    or min(tenant.generation.max_tokens, llm.context_tokens // 2),
                }
            )
        return tenant.model_copy(update=update)

    def writes(self, tenant: TenantConfig) -> bool:
        """Return whether a model may write the tenant's answers here. The packaged model may not."""
        llm = self.generation
        return tenant.answers.mode == "auto" and llm is not None and llm.answering.writes_answers


PACKAGED = TenantModels()


class _Choice(StrictModel):
    embedding: ModelName | None = None
    generation: ModelName | None = None


_CHOICES = TypeAdapter(dict[str, _Choice])


def read_added_model(folder: Path) -> AddedModel:
    """Read ``folder/manifest.toml``. Raises ConfigurationError naming file, line and key."""
    path = folder / MANIFEST_FILE
    if (kind := _kind_of(path)) is not None:
        return read_strict(path, kind)
    raise ConfigurationError(
        f"{path}: a GGUF of an earlier release. Serve it by llama.cpp: llama-server -m FILE, then assistant "
        f"models use --url http://127.0.0.1:8080/v1 --model {folder.name} --tenant T, and delete {folder}."
    )


def _kind_of(path: Path) -> type[AddedModel] | None:
    """Return the kind of model that a manifest describes; None for a GGUF, which earlier releases ran."""
    lines = _text_of(path).splitlines()
    return next((kind for line, kind in _KINDS.items() if line in lines), None)


def added_models(models_dir: Path) -> list[AddedModel]:
    """Return every added model, by name. Raises ConfigurationError."""
    paths = sorted(models_dir.glob(f"*/{MANIFEST_FILE}"))
    return [read_added_model(path.parent) for path in paths if _kind_of(path) is not None]


def local_models(models_dir: Path, tenants: Iterable[str]) -> dict[str, TenantModels]:
    """Return the models that each tenant uses here.

    Raises ConfigurationError when a chosen model is missing, or its cosines were never measured.
    """
    choices = _read_choices(models_dir / CHOICES_FILE)
    return {name: _resolved(models_dir, name, choices.get(name, _Choice())) for name in tenants}


def choose(models_dir: Path, tenant: str, model: AddedModel) -> None:
    """Record that the tenant uses the model here. Raises ConfigurationError when its cosines are unknown."""
    _refuse_unmeasured(model, tenant)
    path = models_dir / CHOICES_FILE
    choices = _read_choices(path)
    chosen = choices.get(tenant, _Choice()).model_copy(update={model.task: model.name})
    _write_choices(path, choices | {tenant: chosen})


def choose_packaged(models_dir: Path, tenant: str) -> None:
    """Record that the tenant uses the packaged models here."""
    path = models_dir / CHOICES_FILE
    choices = _read_choices(path)
    _write_choices(path, {name: choice for name, choice in choices.items() if name != tenant})


def _resolved(models_dir: Path, tenant: str, choice: _Choice) -> TenantModels:
    """Return the models that a choice names. Raises ConfigurationError where one is missing or unmeasured."""
    models: dict[str, AddedModel] = {}
    for task, name in choice.model_dump(exclude_none=True).items():
        if not (models_dir / name / MANIFEST_FILE).is_file():
            raise ConfigurationError(
                f"{tenant} uses the model {name}, which is not under {models_dir}. Add it again "
                f"(assistant models add FOLDER --tenant {tenant}), or go back to the packaged models: "
                f"assistant models use --packaged --tenant {tenant}"
            )
        model = models[task] = read_added_model(models_dir / name)
        _refuse_unmeasured(model, tenant)
    return TenantModels.model_validate(models)


def _refuse_unmeasured(model: AddedModel, tenant: str) -> None:
    """Raise ConfigurationError for an embedding model without measured cosines: with those of the packaged
    model the gate would pass almost anything."""
    if isinstance(model, AddedEmbedding) and None in (model.cosine_unrelated, model.cosine_related):
        raise ConfigurationError(
            f"The model {model.name} was added by an earlier release, which did not measure its cosines. Add "
            f"it again: assistant models add {model.path} --name {model.name} --pooling {model.pooling} "
            f"--tenant {tenant}"
        )


def _read_choices(path: Path) -> dict[str, _Choice]:
    try:
        return _CHOICES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise ConfigurationError(
            f"{path}: invalid record of chosen models. Delete it, and choose again: assistant models use."
        ) from None


def _write_choices(path: Path, choices: Mapping[str, _Choice]) -> None:
    """Replace the file at once, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    by_tenant = {name: choice.model_dump(exclude_none=True) for name, choice in sorted(choices.items())}
    new_path = path.with_name(f".{path.name}.new")
    new_path.touch(mode=0o600)
    new_path.write_bytes(orjson.dumps(by_tenant, option=orjson.OPT_INDENT_2))
    new_path.replace(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}.") from None
