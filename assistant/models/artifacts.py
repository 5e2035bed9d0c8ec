"""What answering must know of the model behind an endpoint: its ``artifact.json`` and ``tokenizer.json``.

``assistant.model_server.artifact`` writes both files, where the weights are.
"""

from __future__ import annotations

import ctypes
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from assistant.domain.errors import ConfigurationError
from assistant.stores.ports import TokenCounter
from assistant.tenant.added_models import ServedLlm
from assistant.tenant.manifests import AnsweringTable

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind the generation endpoint, as its ``artifact.json`` describes it."""

    model_id: str
    digest: str | None
    """SHA-256 (hex) of the artifact; None when the endpoint's artifact is not known here."""
    template_tokens_per_message: int
    """Tokens that the chat template adds around each message."""
    template_tokens_per_prompt: int
    """Tokens that the chat template adds once, at the start and before the model's turn."""
    writes_answers: bool = False
    """Whether the model may write an answer; otherwise answers are quoted."""
    system_role: bool = True
    """Whether its chat template takes a system message."""
    writes_elements: bool = False
    """Whether its prompt lists the tenant's live elements."""
    checks: bool = False
    """Whether it checks sentences well enough to be believed, as measured on planted and true pairs."""
    reads_tokens: int | None = None
    """Prompt tokens that the model reads in 3 s, as measured; None: its context decides."""
    recorded: str | None = None
    """Title of the recording that plays in the model's place: "NAME, 2026-11-22". None: a model runs."""


class FileTokenCounter:
    """Counts tokens with a ``tokenizer.json``, which is loaded on first use, without truncation and padding.

    Raises ConfigurationError naming the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokenizer: Tokenizer | None = None

    def count(self, text: str) -> int:
        return len(self.load().encode(text, add_special_tokens=False).ids)

    def load(self) -> Tokenizer:
        """Return the tokenizer. Called at start, it reports an invalid file there."""
        if self._tokenizer is not None:
            return self._tokenizer
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._path))
        except Exception as error:  # noqa: BLE001 - the binding raises nothing narrower
            problem = f"the model's tokenizer cannot be read: {error}"
            raise ConfigurationError(
                f"{self._path}: {problem}; it is part of the model's artifact."
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        with suppress(AttributeError, OSError):  # only glibc has it
            # Reading the file takes 32 MiB, half of which the allocator would keep for good: give it back.
            ctypes.CDLL(None).malloc_trim(0)
        self._tokenizer = tokenizer
        return tokenizer


TOKENIZER_FILE = "tokenizer.json"
FACTS_FILE = "artifact.json"
_TEMPLATE_TOKENS_PER_MESSAGE = 8
"""Assumed where a model's template is not known here: ChatML, Llama 3, Mistral and Gemma add 5 or fewer."""
_TEMPLATE_TOKENS_PER_PROMPT = 64
"""The same, once: Llama 3.1's template adds 25 for its two dates, some models a default system message."""
_LETTERS = {code: None for code in range(128) if chr(code).isalpha() or chr(code).isspace()}
_LETTERS_PER_TOKEN = 3.0
"""See ``CharacterTokenCounter``."""


class ModelFacts(BaseModel):
    """The part of ``artifact.json`` that callers of the endpoint need. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    schema_version: Literal[1]
    model: str
    digest: str
    max_input_tokens: int
    dimensions: int | None = None
    template_tokens_per_message: int | None = None
    template_tokens_fixed: int | None = None
    answering: AnsweringTable | None = None
    """None for an embedding model, and for an LLM of an earlier release, which then may not write answers."""

    @field_validator("answering", mode="before")
    @classmethod
    def _of_earlier_releases(cls, value: object) -> object:
        """Drop keys that artifacts of earlier releases have, and ``AnsweringTable`` refuses."""
        if isinstance(value, dict):
            table = cast("dict[str, object]", value)
            gone = {"history_turns", "passages", "prompt"}
            return {key: entry for key, entry in table.items() if key not in gone}
        return value


def read_model_facts(artifacts_dir: Path, model: str) -> ModelFacts:
    """Return the facts of a model from its folder below ``artifacts_dir``. Raises ConfigurationError naming
    the file."""
    path = artifacts_dir / model / FACTS_FILE
    try:
        return ModelFacts.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        advice = "start the model server, which makes it, or set model_artifacts_dir to where it is"
        raise ConfigurationError(f"{path}: there is no such model artifact; {advice}.") from None
    except ValidationError as error:
        errors = error.error_count()
        raise ConfigurationError(f"{path}: not an artifact of schema 1 ({errors} errors).") from None


def served_generation_model(artifacts_dir: Path, model: str) -> ServedModel:
    """Return the facts that answering needs of the model.

    Raises ConfigurationError when there is no artifact, or it is not a chat model's.
    """
    facts = read_model_facts(artifacts_dir, model)
    if facts.template_tokens_per_message is None or facts.template_tokens_fixed is None:
        raise ConfigurationError(f"{artifacts_dir / model / FACTS_FILE}: {model} has no chat template.")
    template = (facts.template_tokens_per_message, facts.template_tokens_fixed)
    return _served(facts.model, facts.digest, template, facts.answering or AnsweringTable())


def model_elsewhere(model: ServedLlm) -> tuple[ServedModel, TokenCounter]:
    """Return the facts of a model that another server serves, and what counts its tokens."""
    served = unknown_model(model.name, model.answering)
    if model.tokenizer is not None:
        return served, FileTokenCounter(model.tokenizer)
    return served, CharacterTokenCounter(model.token_ratio or 1.0)


def unknown_model(name: str, answering: AnsweringTable) -> ServedModel:
    """Return the facts of a model whose weights and template are not known here."""
    template = (_TEMPLATE_TOKENS_PER_MESSAGE, _TEMPLATE_TOKENS_PER_PROMPT)
    return _served(name, None, template, answering)


@dataclass(frozen=True, slots=True)
class CharacterTokenCounter:
    """Estimates tokens from characters, where a model's tokenizer is not known: too many rather than too few.

    It counts one token for three ASCII letters or blanks, and one for every other character: "2 Pillen" is 4
    tokens. Measured over 1,369 paragraphs of the sample knowledge and of this project's pages: SmolLM2's own
    tokenizer has more tokens in one paragraph (by 1 %) and MiniLM's in none; over all paragraphs the estimate
    is 1.5 times their number.
    """

    ratio: float = 1.0
    """Tokens for each of the estimate, where the model's server told its own counts."""

    def count(self, text: str) -> int:
        others = len(text.translate(_LETTERS))
        return math.ceil((math.ceil((len(text) - others) / _LETTERS_PER_TOKEN) + others) * self.ratio)


def _served(
    model_id: str, digest: str | None, template: tuple[int, int], answering: AnsweringTable
) -> ServedModel:
    """Return the facts of a model; ``template``: tokens that it adds (around each message, once to a
    prompt)."""
    return ServedModel(
        model_id=model_id,
        digest=digest,
        template_tokens_per_message=template[0],
        template_tokens_per_prompt=template[1],
        writes_answers=answering.writes_answers,
        system_role=answering.system_role,
        writes_elements=answering.writes_elements,
        reads_tokens=answering.reads_tokens,
        checks=answering.sentence_check is not None and answering.sentence_check.is_believed,
    )
