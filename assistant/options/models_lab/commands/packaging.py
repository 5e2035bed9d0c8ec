"""``assistant models package``: an artifact of tuned weights, its manifest, and with ``--put`` its objects.

package FOLDER --name tuned --like served
assistant evaluate --tenant T --model served=… --model tuned=…   writes the comparison into the manifest
(llm = "tuned" under [models], deploy: synth reads the comparison; the way back is llm = "served")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer import Argument, Option

from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.tenant.manifests import (
    CALLERS_PREFIX,
    AnsweringTable,
    Lineage,
    LlmManifest,
    artifact_sha256,
    file_sha256,
)
from assistant.terminal.terminal import GlobalOptions, Terminal

_ARTIFACTS = Path("model_artifacts/llm")
"""Relative to the checkout, where these commands run."""
_CARD, _CONFIG = "training.json", "config.json"
_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer.json"
_BESIDE = (_CARD, "artifact.json")
"""Files that jobs put beside the weights. They are not packaged: the endpoint's role may read only what its
manifest names."""
_WEIGHTS = (".safetensors", ".gguf")
_ARCHITECTURE = {"num_hidden_layers": "layers", "num_key_value_heads": "kv_heads", "head_dim": "head_size"}
"""Key of config.json = field of the manifest."""


def package(
    context: typer.Context,
    folder: Annotated[Path, Argument(metavar="FOLDER", exists=True, file_okay=False)],
    name: Annotated[str, Option("--name", metavar="NAME", help="Folder under model_artifacts/llm/.")],
    like: Annotated[str, Option(metavar="NAME", help="Artifact whose weights were tuned.")],
    card: Annotated[Path | None, Option(metavar="FILE", help="training.json of the training job.")] = None,
    put: Annotated[
        str | None, Option(metavar="T", help="Tenant whose bucket gets it, as its publisher.")
    ] = None,
) -> None:
    """Make an artifact of a folder of tuned weights: its hash and manifest, and with --put the objects."""
    from assistant.terminal import publishing
    from assistant.terminal.account import Deployed

    manifest, files = make_artifact(folder, name=name, like=_ARTIFACTS / like, card=card)
    Terminal().show(f"{name} = {manifest.sha256}: {_ARTIFACTS / name / 'manifest.toml'}")
    if put is None:
        return
    deployed = Deployed.named(GlobalOptions.of(context), put)
    if (models := deployed.config.models) is None:
        raise ConfigurationError(f"{put} has no [models] section: assistant models use NAME serves one.")
    with TemporaryDirectory() as scratch:
        keys = {f"llm/{name}/{manifest.sha256}/{file}": path for file, path in files.items()}
        if models.llm == name:  # the service reads them at its next start: not before it is the served model
            keys |= _callers_of(manifest, files, into=Path(scratch))
        terminal = Terminal(steps=True)
        publishing.upload(deployed, keys, terminal)
        publishing.check_artifact(manifest, deployed=deployed, terminal=terminal)


def make_artifact(
    folder: Path, *, name: str, like: Path, card: Path | None
) -> tuple[LlmManifest, Mapping[str, Path]]:
    """Write ``manifest.toml`` of the artifact ``name`` beside the one that it is ``like``.

    Return it with the artifact's files by their names in it. Raises ConfigurationError, ConflictError where
    the name has other weights already.

    ``card``: of its training job (``training.json``); None: it is in the folder or above it.
    """
    base, into = LlmManifest.read(like), like.parent / name
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {file: paths[file] for file in sorted(paths.keys() - set(_BESIDE)) if not file.startswith(".")}
    if wrong := list(_faults(base, files, templates=like.parent.glob("*.jinja"))):
        raise ConfigurationError(f"{folder} is no artifact like {base.name}: {'; '.join(wrong)}.")
    sizes = [path.stat().st_size for file, path in files.items() if file.endswith(_WEIGHTS)]
    cards = (folder / _CARD, folder.parent / _CARD)  # of neither the second one is named in the error
    sha256 = artifact_sha256({file: file_sha256(path) for file, path in files.items()})
    before = LlmManifest.read(into) if (into / "manifest.toml").is_file() else None
    known = before.answering if before and before.sha256 == sha256 else AnsweringTable()  # of these weights
    update = {
        "name": name,
        "sha256": sha256,
        "answering": base.answering.model_copy(update={"sentence_check": known.sentence_check}),
        "files": tuple(files),
        "weights_bytes": sum(sizes),
        "lineage": lineage_of(base, card or next(filter(Path.is_file, cards), cards[-1])),
    }
    _write_manifest(base.model_copy(update=update), into)
    return LlmManifest.read(into), files


def _faults(base: LlmManifest, files: Mapping[str, Path], *, templates: Iterable[Path]) -> Iterator[str]:
    """Yield what is wrong with an artifact's files, and what to do. ``templates``: the chat templates that
    were looked through (``model_artifacts/llm/*.jinja``)."""
    if not any(name.endswith(_WEIGHTS) for name in files):
        yield "it has no weights (*.safetensors, *.gguf)"
    if missing := [name for name in base.files if name not in files and not name.endswith(_WEIGHTS)]:
        yield f"it lacks {', '.join(missing)}; assistant models compile makes neuron_config.json and model.pt"
    config: dict[str, Any] = json.loads(files[_CONFIG].read_bytes()) if _CONFIG in files else {}
    for key, field in _ARCHITECTURE.items():
        expected = getattr(base, field)
        if config.get(key, expected) != expected:
            yield f"{key} is {config[key]}, not {expected}; name the model that was tuned: --like NAME"
    template = files.get(base.chat_template or "")
    if template and template.read_bytes() not in {path.read_bytes() for path in templates}:
        yield f"{template.name} is none of model_artifacts/llm/*.jinja, and the model could reason aloud"


def lineage_of(base: LlmManifest, card: Path) -> Lineage:
    """Return what a tuned model was made of, by the card that its training job wrote
    (``containers/training_job``). Raises ConfigurationError.

        {"base_model": SHA256, "training_set": SHA256, "licences": {"base": "Apache-2.0", "set": "…"}, …}
    """
    try:
        job_card = json.loads(card.read_bytes())
        return Lineage(
            base=base.name,
            base_model=job_card["base_model"],
            training_set=job_card["training_set"],
            licences={name: job_card["licences"][name] for name in ("base", "set")},
        )
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{error.filename}: no such file. Name the card of the job: --card FILE."
        ) from None
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ConfigurationError(f"{card} is no card of a training job ({type(error).__name__}).") from None


def _write_manifest(manifest: LlmManifest, folder: Path) -> None:
    """Write ``manifest.toml``, whole or not at all. Raises ConflictError where it has another hash."""
    import tomlkit  # of the command line alone

    path, written = folder / "manifest.toml", folder / ".manifest.toml.new"
    if path.is_file() and LlmManifest.read(folder).sha256 not in (None, manifest.sha256):
        raise ConflictError(
            f"{path} is of other weights. An artifact never changes: give these another name."
        )
    folder.mkdir(exist_ok=True)
    text = tomlkit.dumps(manifest.model_dump(mode="json", exclude_none=True))
    written.write_text(f"# Written by assistant models package.\n{text}", encoding="utf-8")
    written.replace(path)


def _callers_of(manifest: LlmManifest, files: Mapping[str, Path], *, into: Path) -> dict[str, Path]:
    """Write into a folder what callers of the endpoint read; return the files by their keys in the bucket:
    the facts of the model, and its tokenizer, by which the service counts tokens.

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
        """Return the tokens of these messages under the model's chat template."""
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
