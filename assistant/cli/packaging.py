"""Makes a model artifact of a folder of weights: its hash, its manifest, and what callers of it need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.settings.model_artifacts import (
    CALLERS_PREFIX,
    Lineage,
    LlmManifest,
    artifact_sha256,
    load_llm_manifest,
)

CARD = "training.json"
_BESIDE = frozenset({CARD, "weights.json", "artifact.json"})
"""Files of jobs that are no part of an artifact: the endpoint's role may read those of its manifest alone."""
_WEIGHTS = (".safetensors", ".gguf")
_TEMPLATE = "chat_template.jinja"
_ARCHITECTURE = {"num_hidden_layers": "layers", "num_key_value_heads": "kv_heads", "head_dim": "head_size"}
"""Key of config.json = field of the manifest."""


def files_of(folder: Path) -> dict[str, Path]:
    """Return an artifact's files by their names in it. Raises ConfigurationError without weights."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {name: found[name] for name in sorted(found) if name not in _BESIDE and not name.startswith(".")}
    if not any(name.endswith(_WEIGHTS) for name in files):
        raise ConfigurationError(f"{folder} has no weights (*.safetensors or *.gguf).")
    return files


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package(
    folder: Path, *, name: str, like: Path, card: Path | None, evaluated: Path | None
) -> tuple[LlmManifest, Mapping[str, Path]]:
    """Write ``manifest.toml`` of the artifact ``name`` beside the one that it is ``like``.

    Return it with the artifact's files. ``card``: of its training job; in the folder or above it when None.
    ``evaluated``: the same weights in the file that an evaluation read. Raises ConfigurationError,
    ConflictError where the name has other weights already.
    """
    base, files = load_llm_manifest(like), files_of(folder)
    _check_files(base, files, folder, shipped=like.parent)
    _check_architecture(base, files.get("config.json"))
    manifest = base.model_copy(
        update={
            "name": name,
            "sha256": artifact_sha256({each: sha256_of(path) for each, path in files.items()}),
            "files": tuple(files),
            "weights_bytes": sum(
                path.stat().st_size for each, path in files.items() if each.endswith(_WEIGHTS)
            ),
            "lineage": _lineage(base, folder, card, evaluated),
        }
    )
    _write(manifest, like.parent / name)
    return load_llm_manifest(like.parent / name), files


def _check_files(base: LlmManifest, files: Mapping[str, Path], folder: Path, *, shipped: Path) -> None:
    if missing := [name for name in base.files if name not in files and not name.endswith(_WEIGHTS)]:
        how = {"neuron_config.json": "Compile it first: assistant models compile", _TEMPLATE: ""}
        advice = next((how[name] for name in missing if how.get(name)), f"Put them into {folder}")
        raise ConfigurationError(
            f"{folder} lacks {', '.join(missing)}, which an artifact like {base.name} has. {advice}."
        )
    if base.chat_template is None:
        return
    known = {path.read_bytes(): path for path in shipped.glob("*.jinja")}
    if files[base.chat_template].read_bytes() not in known:
        released = ", ".join(str(path) for path in known.values())
        raise ConfigurationError(
            f"{files[base.chat_template]} is none of the released chat templates, and a model could "
            f"reason aloud to agents. Copy one over it: {released}."
        )


def _check_architecture(base: LlmManifest, config: Path | None) -> None:
    if config is None:
        return
    told = cast("Mapping[str, Any]", json.loads(config.read_text(encoding="utf-8")))
    for key, field in _ARCHITECTURE.items():
        if key in told and told[key] != getattr(base, field):
            raise ConfigurationError(
                f"{config}: {key} is {told[key]}, and {base.name} has {field} = {getattr(base, field)}. "
                "Name the artifact of the model that was tuned: --like NAME."
            )


def _lineage(base: LlmManifest, folder: Path, card: Path | None, evaluated: Path | None) -> Lineage:
    places = [folder / CARD, folder.parent / CARD] if card is None else [card]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ConfigurationError(f"{places[0]}: there is no card of the training job. Name it: --card FILE.")
    told = cast("Mapping[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    try:
        return Lineage(
            base=base.name,
            base_model=told["base_model"],
            training_set=told["training_set"],
            licences={name: str(told["licenses"][name]) for name in ("base", "set")},
            also=() if evaluated is None else (sha256_of(evaluated),),
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigurationError(
            f"{path} is no card of a training job ({type(error).__name__}: {str(error).splitlines()[0]})."
        ) from None


def _write(manifest: LlmManifest, folder: Path) -> None:
    import tomlkit  # of the command line alone

    path = folder / "manifest.toml"
    if path.is_file() and load_llm_manifest(folder).sha256 not in (None, manifest.sha256):
        raise ConflictError(
            f"{path} is of other weights ({load_llm_manifest(folder).sha256}; these are {manifest.sha256}). "
            "An artifact never changes: give this one another name."
        )
    document = tomlkit.document()
    of = "" if manifest.lineage is None else f", tuned weights of {manifest.lineage.base}"
    document.add(tomlkit.comment(f"{manifest.name}{of}. Written by assistant models package."))
    for key, value in manifest.model_dump(mode="json", exclude_none=True).items():
        document[key] = value
    folder.mkdir(exist_ok=True)
    written = folder / ".manifest.toml.new"
    written.write_text(tomlkit.dumps(document), encoding="utf-8")
    written.replace(path)


# --- what callers of the endpoint read --------------------------------------------------------------------
def callers_of(manifest: LlmManifest, files: Mapping[str, Path], *, into: Path) -> dict[str, Path]:
    """Write ``artifact.json`` and ``tokenizer.json`` into a folder; return them by their keys in the bucket.

    Raises ConfigurationError where tokens or template cannot be read.
    """
    from assistant.model_server.artifact import ModelArtifact, ensure_artifact
    from assistant.settings.process import ModelServerSettings

    context, name = manifest.sequence_length, manifest.served_name
    if manifest.image == "model_server":
        (weights,) = files.values()
        settings = ModelServerSettings(
            task="generation", path=weights, context_tokens=context, artifacts_dir=into
        )
        made = ensure_artifact(settings)
        folder = into / made.model
        artifact = made.model_copy(update={"model": name, "answering": manifest.answering})
    else:
        folder = into
        per_message, fixed = _overhead(files)
        artifact = ModelArtifact(
            model=name,
            task="generation",
            digest=str(manifest.sha256),
            max_input_tokens=context - 1,
            context_tokens=context,
            template_tokens_per_message=per_message,
            template_tokens_fixed=fixed,
            answering=manifest.answering,
        )
        (folder / "tokenizer.json").write_bytes(files["tokenizer.json"].read_bytes())
    (folder / "artifact.json").write_text(artifact.model_dump_json(indent=1), encoding="utf-8")
    return {f"{CALLERS_PREFIX}{name}/{each}": folder / each for each in ("artifact.json", "tokenizer.json")}


def _overhead(files: Mapping[str, Path]) -> tuple[int, int]:
    """Return the tokens that the artifact's own chat template adds around a message, and once."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from tokenizers import Tokenizer

    from assistant.model_server.artifact import template_overhead

    tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    # As transformers renders it: src/transformers/utils/chat_template_utils.py, _compile_jinja_template.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files[_TEMPLATE].read_text(encoding="utf-8"))

    def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
        prompt = template.render(messages=messages, add_generation_prompt=True)
        return len(tokenizer.encode(prompt, add_special_tokens=False).ids)

    return template_overhead(tokenizer, prompt_tokens)
