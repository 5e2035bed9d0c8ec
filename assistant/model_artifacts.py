"""Reads the artifacts of the served models: ``<folder>/<model>/artifact.json`` and ``tokenizer.json``.

``assistant.model_server.artifact`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.answering.services import ServedModel
from assistant.domain.errors import ConfigurationError
from assistant.settings.model_artifacts import AnsweringTable

if TYPE_CHECKING:
    pass


TOKENIZER_FILE = "tokenizer.json"
FACTS_FILE = "artifact.json"


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


def read_model_facts(artifacts_dir: Path, model: str) -> ModelFacts:
    """Raises ConfigurationError naming the file."""
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
    answering = facts.answering or AnsweringTable()
    return ServedModel(
        model_id=facts.model,
        digest=facts.digest,
        template_tokens_per_message=facts.template_tokens_per_message,
        template_tokens_per_prompt=facts.template_tokens_fixed,
        writes_answers=answering.writes_answers,
        prompt=answering.prompt,
        passages=answering.passages,
        history_turns=answering.history_turns,
    )
