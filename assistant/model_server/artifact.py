"""Builds the files that are derived from a model's weights, once, in a folder named after the model.

``artifact.json`` describes the model to callers of its endpoint; ``tokenizer.json`` counts its tokens. A
GGUF without a ``tokenizer.json`` beside it gets one from its own vocabulary and merges (byte-level BPE of
the kinds in ``_PATTERNS``; names and patterns as in llama.cpp, src/llama-vocab.cpp), checked against the
runtime. ``python -m assistant.model_server.artifact`` builds both files by the same settings as the server.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import httpx
from filelock import FileLock, Timeout
from pydantic import ValidationError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from assistant.domain.errors import ConfigurationError, LocalRuntimeError
from assistant.domain.public import PublicModel
from assistant.model_server.embedding import CosineMeans, measure_cosines
from assistant.model_server.embedding_graph import PassageRunner, load_graph, longest_input
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.weights import Weights, locate_weights, read_tokenizer
from assistant.process.private_files import replace_private
from assistant.process.settings import ModelServerSettings
from assistant.tenant.manifests import AnsweringTable

ARTIFACT_FILE = "artifact.json"
TOKENIZER_FILE = "tokenizer.json"
_BUILDER_VERSION = 3
"""Increase it whenever what the builders write changes: older artifacts are then built again."""
_LOCK_TIMEOUT_S = 120.0
_BY_UMASK = 0o666
"""Mode of the files, less the umask: in an image another user than their owner reads them."""


class ModelArtifact(PublicModel):
    """``artifact.json``. A fact that the task does not have is null."""

    schema_version: Literal[1] = 1
    builder_version: int = _BUILDER_VERSION
    model: str
    task: Literal["embedding", "generation"]
    digest: str
    """SHA-256 (hex) of the weights' file."""
    max_input_tokens: int
    """The longest input, special tokens included."""
    dimensions: int | None = None
    pooling: Literal["mean", "cls"] | None = None
    cosine_unrelated: float | None = None
    """Mean cosine of a question with text that has nothing to do with it, by ``cosine_means``."""
    cosine_related: float | None = None
    """Mean cosine of a question with the text that answers it."""
    context_tokens: int | None = None
    """Prompt and answer of one stream together."""
    template_tokens_per_message: int | None = None
    """At most so many tokens the chat template adds around one message's content."""
    template_tokens_fixed: int | None = None
    """At most so many it adds once to a prompt that begins with a system message."""
    answering: AnsweringTable | None = None
    """What an LLM is trusted with, and how it is asked: the table of its manifest."""


def ensure_artifact(settings: ModelServerSettings) -> ModelArtifact:
    """Return the model's artifact, built first when it is missing or not of these weights and settings.

    Two processes at once build once. Raises ConfigurationError, LocalRuntimeError.
    """
    weights = locate_weights(settings)
    folder = artifact_folder(settings, weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "build.lock", timeout=_LOCK_TIMEOUT_S):
            return _ensure_locked(settings, weights=weights, folder=folder)
    except Timeout:
        raise LocalRuntimeError(f"{folder}: another process has been building for {_LOCK_TIMEOUT_S:.0f} s.")  # noqa: B904
    except OSError as error:
        raise LocalRuntimeError(f"{folder}: cannot be written: {error.strerror or error}.") from None


def artifact_folder(settings: ModelServerSettings, weights: Weights) -> Path:
    """Return the folder of the artifact: that of the model's name below ``artifacts_dir``."""
    return settings.artifacts_dir / weights.name


def read_artifact(folder: Path) -> ModelArtifact | None:
    """Return the folder's artifact, or None when there is none of this schema."""
    try:
        return ModelArtifact.model_validate_json((folder / ARTIFACT_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _ensure_locked(settings: ModelServerSettings, *, weights: Weights, folder: Path) -> ModelArtifact:
    """Return the folder's artifact, built where it is missing or stale; the caller holds the lock."""
    digest = weights.digest()
    if weights.expected not in (None, digest):
        raise ConfigurationError(
            f"{weights.file}: the weights changed since {weights.name} was added. Add them under another "
            "name: assistant models add FOLDER --name NAME."
        )
    stored = read_artifact(folder)
    if (
        stored is not None
        and (folder / TOKENIZER_FILE).exists()
        and _same_model(stored, settings=settings, weights=weights, digest=digest)
    ):
        artifact = _with_limits_of(settings, stored)
        tokenizer = None
    else:
        build = build_embedding_artifact if settings.task == "embedding" else build_generation_artifact
        artifact, tokenizer = build(weights, settings=settings, digest=digest)
    if tokenizer is not None:
        replace_private(folder / TOKENIZER_FILE, tokenizer, synced=True, mode=_BY_UMASK)
    if artifact != stored:
        # Written last: a folder with this file is complete.
        content = artifact.model_dump_json(indent=1).encode()
        replace_private(folder / ARTIFACT_FILE, content, synced=True, mode=_BY_UMASK)
    return artifact


def _same_model(
    artifact: ModelArtifact, *, settings: ModelServerSettings, weights: Weights, digest: str
) -> bool:
    """Return whether the artifact was built by this builder of these weights; for an embedding model also
    with this input limit and pooling, on which its cosines depend."""
    made_of = (artifact.builder_version, artifact.task, artifact.digest)
    if made_of != (_BUILDER_VERSION, settings.task, digest):
        return False
    return settings.task == "generation" or (artifact.max_input_tokens, artifact.pooling) == (
        settings.max_input_tokens,
        weights.pooled_by(),
    )


def _with_limits_of(settings: ModelServerSettings, artifact: ModelArtifact) -> ModelArtifact:
    """Return the artifact of an LLM with the context length of the settings, which needs no new build; that
    of an embedding model as it is."""
    if settings.task == "embedding":
        return artifact
    tokens = settings.context_tokens
    return artifact.model_copy(update={"context_tokens": tokens, "max_input_tokens": tokens - 1})


def main() -> None:
    """Build the artifact that the environment's settings name, and print it."""
    try:
        artifact = ensure_artifact(ModelServerSettings.read())
    except (ConfigurationError, LocalRuntimeError) as error:
        sys.exit(error.message)
    sys.stdout.write(artifact.model_dump_json() + "\n")


# --- a tokenizer from a GGUF's own vocabulary and merges ------------------------------------------------


# Regular expressions that cut a text into words before BPE, as llama.cpp has them.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tokenizer.ggml.pre of a GGUF = the expressions that cut one after the other
_PATTERNS: dict[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "llama-bpe": (_TIKTOKEN % "{1,3}",),
    "qwen2": (_TIKTOKEN % "",),
}
_WHOLE_WORDS_FIRST = frozenset({"llama-bpe"})
"""A word that is itself in the vocabulary is taken whole, without merges."""
_CONTROL, _USER_DEFINED = 3, 4
"""Types of tokens in a GGUF (llama.cpp, ``llama_token_type``)."""


def tokenizer_from_gguf(path: Path) -> Tokenizer:
    """Return the tokenizer of a GGUF file. Raises ConfigurationError when its kind is not known here."""
    from gguf import GGUFReader

    try:
        reader: Any = GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigurationError(f"{path}: not a GGUF file: {error}") from None
    kind = _field(reader, "model")
    pattern_name = cast("str", _field(reader, "pre") or "gpt-2")
    if kind != "gpt2" or pattern_name not in _PATTERNS:
        raise ConfigurationError(
            f"{path}: its vocabulary ({kind}, {pattern_name}) cannot be turned into a tokenizer.json here "
            f"(gpt2 with {', '.join(sorted(_PATTERNS))} can); put the model's tokenizer.json beside the file."
        )
    tokens = cast("list[str]", _field(reader, "tokens"))
    merges = cast("list[str]", _field(reader, "merges"))
    model = BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[(first, second) for first, second in (merge.split(" ", 1) for merge in merges)],
        ignore_merges=pattern_name in _WHOLE_WORDS_FIRST,
    )
    tokenizer = _with_patterns(Tokenizer(model), _PATTERNS[pattern_name])
    token_types = cast("list[int]", _field(reader, "token_type"))
    tokenizer.add_special_tokens(_added(tokens, token_types, wanted=_CONTROL))
    tokenizer.add_tokens(_added(tokens, token_types, wanted=_USER_DEFINED))
    return tokenizer


def _field(reader: Any, name: str) -> Any:
    """Return the value of a field of the tokenizer in a GGUF's header; None where it has no such field."""
    field = reader.get_field(f"tokenizer.ggml.{name}")
    return None if field is None else field.contents()


def _with_patterns(tokenizer: Tokenizer, patterns: tuple[str, ...]) -> Tokenizer:
    """Return the tokenizer, made to cut texts by the patterns and to map bytes to characters, both ways."""
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, to_bytes])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def _added(tokens: list[str], token_types: list[int], *, wanted: int) -> list[AddedToken]:
    """Return the tokens of the wanted type, which are found in a text before it is cut."""
    return [
        AddedToken(token, normalized=False, special=wanted == _CONTROL)
        for token, token_type in zip(tokens, token_types, strict=True)
        if token_type == wanted
    ]


# --- embedding models -----------------------------------------------------------------------------------


def build_embedding_artifact(
    weights: Weights, *, settings: ModelServerSettings, digest: str
) -> tuple[ModelArtifact, bytes]:
    """Return the artifact and its tokenizer.json. Raises ConfigurationError."""
    tokenizer = read_tokenizer(weights.path / "tokenizer.json")
    longest = longest_input(weights.path)
    if settings.max_input_tokens > longest:
        raise ConfigurationError(
            f"max_input_tokens is {settings.max_input_tokens}, {weights.name} takes at most {longest}."
        )
    means = _cosine_means(weights, tokenizer, settings=settings)
    if weights.expected is not None:  # added weights; for others the tenant file gives the means, checked
        means.refuse_alike(weights.name)
    artifact = ModelArtifact(
        model=weights.name,
        task="embedding",
        digest=digest,
        max_input_tokens=settings.max_input_tokens,
        dimensions=weights.dimensions(),
        pooling=weights.pooled_by(),
        cosine_unrelated=means.unrelated,
        cosine_related=means.related,
    )
    return artifact, tokenizer.to_str().encode()


def _cosine_means(weights: Weights, tokenizer: Tokenizer, *, settings: ModelServerSettings) -> CosineMeans:
    """Run the model on the packaged pairs: 64 texts, about a second for a small model."""
    max_tokens = settings.max_input_tokens  # the longest text has some 40 tokens; a lower limit cuts it
    try:
        graph = load_graph(weights.graph(), threads=1, precision=settings.precision)
        runner = PassageRunner(graph, pooling=weights.pooled_by())
        return measure_cosines(lambda text: runner.embed(tokenizer.encode(text).ids[:max_tokens]))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1:]
        raise ConfigurationError(
            f"{weights.file}: the graph cannot be run: {' '.join(reason)[:200]}"
        ) from None


# --- LLMs -----------------------------------------------------------------------------------------------


_PROBE_CONTEXT_TOKENS = 512
_RUNTIME_TIMEOUT_S = 30.0
_PROBES = (
    "Refill too soon: reject code 79, wait 3 days; can't be overridden.",
    "Überprüfen Sie Größe & Maß: 50 µg/mL, ½ Tablette… naïve façade",
    "処方箋を確認してください。 Проверьте рецепт. 😀👩🏽‍⚕️",
    "  two  spaces\n\n\tand\r\na tab   \n ends ",
    "if (x != 12345.678) { return 'I''LL'; } // we'Re DON'T",
    "<|im_start|>user\nhidden<|im_end|>",
)
"""Texts on which the made tokenizer must equal the runtime's own: digits, quotes, scripts, spaces, markup."""
# Roles of the messages by which the template is measured
_TURNS = ("system", "user", "assistant", "user", "assistant", "user")


def build_generation_artifact(
    weights: Weights, *, settings: ModelServerSettings, digest: str
) -> tuple[ModelArtifact, bytes]:
    """Return the artifact and its tokenizer.json. Raises ConfigurationError."""
    beside = weights.path.parent / TOKENIZER_FILE
    tokenizer = read_tokenizer(beside) if beside.exists() else tokenizer_from_gguf(weights.path)
    with _running(weights, threads=settings.threads) as client:
        _check_tokenizer(tokenizer, client=client, weights=weights)
        per_message, fixed = _template_tokens(tokenizer, client=client, weights=weights)
    artifact = ModelArtifact(
        model=weights.name,
        task="generation",
        digest=digest,
        max_input_tokens=settings.context_tokens - 1,
        context_tokens=settings.context_tokens,
        template_tokens_per_message=per_message,
        template_tokens_fixed=fixed,
        answering=AnsweringTable(),
    )
    return artifact, tokenizer.to_str().encode()


@contextmanager
def _running(weights: Weights, *, threads: int) -> Generator[httpx.Client]:
    """Run llama.cpp with a small context inside the block; yield an HTTP client of it."""
    runtime = LlamaRuntime(
        weights.path, model=weights.name, slots=1, context_tokens=_PROBE_CONTEXT_TOKENS, threads=threads
    )
    runtime.start()
    try:
        headers = runtime.authorization
        with httpx.Client(
            base_url=runtime.address, headers=headers, timeout=_RUNTIME_TIMEOUT_S, trust_env=False
        ) as client:
            yield client
    finally:
        runtime.close()


def _check_tokenizer(tokenizer: Tokenizer, *, client: httpx.Client, weights: Weights) -> None:
    """Raise ConfigurationError where the tokenizer cuts a probe otherwise than the runtime."""
    for probe in _PROBES:
        if tokenizer.encode(probe, add_special_tokens=False).ids != _runtime_tokens(client, probe):
            raise ConfigurationError(
                f"{weights.path}: the tokenizer differs from the runtime's own; "
                "put the model's tokenizer.json beside the file."
            )


def _template_tokens(tokenizer: Tokenizer, *, client: httpx.Client, weights: Weights) -> tuple[int, int]:
    """Return ``template_overhead`` of the model's own template, which the runtime applies. Raises
    ConfigurationError."""

    def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
        response = client.post("/apply-template", json={"messages": messages})
        if response.status_code != 200:
            raise ConfigurationError(
                f"{weights.path}: its chat template takes no system message or no dialogue."
            )
        return len(_runtime_tokens(client, cast("dict[str, Any]", response.json())["prompt"]))

    return template_overhead(tokenizer, prompt_tokens)


def template_overhead(
    tokenizer: Tokenizer, prompt_tokens: Callable[[Sequence[Mapping[str, str]]], int]
) -> tuple[int, int]:
    """Return (most tokens that a chat template adds around each message, most that it adds once to a prompt).

    ``prompt_tokens`` returns the tokens of the prompt that the template makes of messages. It is asked for
    dialogues of 2, 4 and 6 messages: with 5 tokens a message and 3 once, these have 13, 23 and 33 more than
    their contents.
    """
    added: dict[int, int] = {}
    for count in (2, 4, 6):
        messages = [{"role": role, "content": "A few words."} for role in _TURNS[:count]]
        contents = sum(
            len(tokenizer.encode(message["content"], add_special_tokens=False)) for message in messages
        )
        added[count] = prompt_tokens(messages) - contents
    per_message = max(math.ceil((added[4] - added[2]) / 2), math.ceil((added[6] - added[4]) / 2), 0)
    fixed = max(0, *(total - per_message * count for count, total in added.items()))
    return per_message, fixed


def _runtime_tokens(client: httpx.Client, text: str) -> list[int]:
    """Return the ids of a text's tokens by the runtime's tokenizer."""
    response = client.post("/tokenize", json={"content": text, "add_special": False, "parse_special": True})
    response.raise_for_status()
    return cast("dict[str, list[int]]", response.json())["tokens"]


if __name__ == "__main__":
    main()
