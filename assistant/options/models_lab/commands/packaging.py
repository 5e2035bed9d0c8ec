"""Makes a model artifact of a folder of weights: its hash, its manifest, and what callers of it need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.tenant.manifests import (
    CALLERS_PREFIX,
    Lineage,
    LlmManifest,
    artifact_sha256,
    file_sha256,
    load_llm_manifest,
)

_CARD, _CONFIG = "training.json", "config.json"
_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer.json"
_BESIDE = (_CARD, "artifact.json")
"""Files that jobs put beside the weights. They are not packaged: the endpoint's role may read only what its
manifest names."""
_WEIGHTS = (".safetensors", ".gguf")
_ARCHITECTURE = {"num_hidden_layers": "layers", "num_key_value_heads": "kv_heads", "head_dim": "head_size"}
"""Key of config.json = field of the manifest."""


def package(
    folder: Path, *, name: str, like: Path, card: Path | None, evaluated: Path | None
) -> tuple[LlmManifest, Mapping[str, Path]]:
    """Write ``manifest.toml`` of the artifact ``name`` beside the one that it is ``like``.

    Return it with the artifact's files by their names in it. Raises ConfigurationError, ConflictError where
    the name has other weights already.

    ``card``: of its training job (``training.json``); None: it is in the folder or above it. ``evaluated``:
    the file of the same weights that an evaluation read (a GGUF), whose hash ``lineage.also`` holds.
    """
    base, into = load_llm_manifest(like), like.parent / name
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {each: found[each] for each in sorted(found.keys() - set(_BESIDE)) if not each.startswith(".")}
    if wrong := list(_faults(base, files, templates=like.parent.glob("*.jinja"))):
        raise ConfigurationError(f"{folder} is no artifact like {base.name}: {'; '.join(wrong)}.")
    sizes = [path.stat().st_size for each, path in files.items() if each.endswith(_WEIGHTS)]
    beside = (folder / _CARD, folder.parent / _CARD)
    update = {
        "name": name,
        "sha256": artifact_sha256({each: file_sha256(path) for each, path in files.items()}),
        "files": tuple(files),
        "weights_bytes": sum(sizes),
        "lineage": _lineage(base, card or next(filter(Path.is_file, beside), beside[-1]), evaluated),
    }
    _write(base.model_copy(update=update), into)
    return load_llm_manifest(into), files


def _faults(base: LlmManifest, files: Mapping[str, Path], *, templates: Iterable[Path]) -> Iterator[str]:
    """Yield what is wrong with an artifact's files, and what to do."""
    if not any(name.endswith(_WEIGHTS) for name in files):
        yield "it has no weights (*.safetensors, *.gguf)"
    if missing := [name for name in base.files if name not in files and not name.endswith(_WEIGHTS)]:
        yield f"it lacks {', '.join(missing)}; assistant models compile makes neuron_config.json and model.pt"
    config: dict[str, Any] = json.loads(files[_CONFIG].read_bytes()) if _CONFIG in files else {}
    for key, field in _ARCHITECTURE.items():
        of_base = getattr(base, field)
        if config.get(key, of_base) != of_base:
            yield f"{key} is {config[key]}, not {of_base}; name the model that was tuned: --like NAME"
    template = files.get(base.chat_template or "")
    if template and template.read_bytes() not in {path.read_bytes() for path in templates}:
        yield f"{template.name} is none of model_artifacts/llm/*.jinja, and the model could reason aloud"


def _lineage(base: LlmManifest, card: Path, evaluated: Path | None) -> Lineage:
    try:
        job_card = json.loads(card.read_bytes())
        return Lineage(
            base=base.name,
            base_model=job_card["base_model"],
            training_set=job_card["training_set"],
            licences={name: job_card["licenses"][name] for name in ("base", "set")},
            also=() if evaluated is None else (file_sha256(evaluated),),
        )
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{error.filename}: no such file. Name the card of the job: --card FILE."
        ) from None
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ConfigurationError(f"{card} is no card of a training job ({type(error).__name__}).") from None


def _write(manifest: LlmManifest, folder: Path) -> None:
    import tomlkit  # of the command line alone

    path, written = folder / "manifest.toml", folder / ".manifest.toml.new"
    if path.is_file() and load_llm_manifest(folder).sha256 not in (None, manifest.sha256):
        raise ConflictError(
            f"{path} is of other weights. An artifact never changes: give these another name."
        )
    folder.mkdir(exist_ok=True)
    text = tomlkit.dumps(manifest.model_dump(mode="json", exclude_none=True))
    written.write_text(f"# Written by assistant models package.\n{text}", encoding="utf-8")
    written.replace(path)


def callers_of(manifest: LlmManifest, files: Mapping[str, Path], *, into: Path) -> dict[str, Path]:
    """Write what callers of the endpoint read into a folder; return the files by their keys in the bucket.

    Empty for an artifact without a chat template of its own: our own model server serves it, and makes these
    files itself (``assistant.model_server.artifact``).
    """
    if _TEMPLATE not in files:
        return {}
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from tokenizers import Tokenizer

    from assistant.model_server.artifact import ARTIFACT_FILE, ModelArtifact, template_overhead

    tokenizer = Tokenizer.from_file(str(files[_TOKENIZER]))
    # As transformers renders it: src/transformers/utils/chat_template_utils.py, _compile_jinja_template.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files[_TEMPLATE].read_text(encoding="utf-8"))

    def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
        prompt = template.render(messages=messages, add_generation_prompt=True)
        return len(tokenizer.encode(prompt, add_special_tokens=False).ids)

    per_message, fixed = template_overhead(tokenizer, prompt_tokens)
    facts = ModelArtifact(
        model=manifest.served_name,
        task="generation",
        digest=str(manifest.sha256),
        max_input_tokens=manifest.sequence_length - 1,
        context_tokens=manifest.sequence_length,
        template_tokens_per_message=per_message,
        template_tokens_fixed=fixed,
        answering=manifest.answering,
    )
    (into / ARTIFACT_FILE).write_text(facts.model_dump_json(indent=1), encoding="utf-8")
    prefix = f"{CALLERS_PREFIX}{manifest.served_name}"
    return {f"{prefix}/{ARTIFACT_FILE}": into / ARTIFACT_FILE, f"{prefix}/{_TOKENIZER}": files[_TOKENIZER]}
