"""The artifact of an LLM: its tokenizer and what its chat template adds, checked against the runtime."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import ModelArtifact
from assistant.model_server.gguf_tokenizer import tokenizer_from_gguf
from assistant.model_server.llama_runtime import LlamaRuntime
from assistant.model_server.weights import Weights
from assistant.settings.process import ModelServerSettings

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
_TURNS = ("system", "user", "assistant", "user", "assistant", "user")


def build_generation_artifact(
    weights: Weights, *, settings: ModelServerSettings, digest: str
) -> tuple[ModelArtifact, bytes]:
    """Return the artifact and its tokenizer.json. Raises ConfigurationError."""
    tokenizer = _tokenizer(weights.path)
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
        answering=weights.answering,
    )
    return artifact, tokenizer.to_str().encode()


@contextmanager
def _running(weights: Weights, *, threads: int) -> Generator[httpx.Client]:
    """Run the runtime with a small context, and give a client of it."""
    runtime = LlamaRuntime(
        weights.path, model=weights.name, slots=1, context_tokens=_PROBE_CONTEXT_TOKENS, threads=threads
    )
    runtime.start()
    try:
        with httpx.Client(
            base_url=runtime.address,
            headers=runtime.authorization,
            timeout=_RUNTIME_TIMEOUT_S,
            trust_env=False,
        ) as client:
            yield client
    finally:
        runtime.close()


def _tokenizer(path: Path) -> Tokenizer:
    beside = path.parent / "tokenizer.json"
    if not beside.exists():
        return tokenizer_from_gguf(path)
    tokenizer = Tokenizer.from_file(str(beside))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _check_tokenizer(tokenizer: Tokenizer, *, client: httpx.Client, weights: Weights) -> None:
    for probe in _PROBES:
        if tokenizer.encode(probe, add_special_tokens=False).ids != _runtime_tokens(client, probe):
            raise ConfigurationError(
                f"{weights.path}: the tokenizer differs from the runtime's own; "
                "put the model's tokenizer.json beside the file."
            )


def _template_tokens(tokenizer: Tokenizer, *, client: httpx.Client, weights: Weights) -> tuple[int, int]:
    """Return the most that the template adds around a message, and once, over a few dialogues."""
    added: dict[int, int] = {}
    for count in (2, 4, 6):
        messages = [{"role": role, "content": "A few words."} for role in _TURNS[:count]]
        answer = client.post("/apply-template", json={"messages": messages})
        if answer.status_code != 200:
            raise ConfigurationError(
                f"{weights.path}: its chat template takes no system message or no dialogue."
            )
        prompt = cast("dict[str, Any]", answer.json())["prompt"]
        contents = sum(len(tokenizer.encode(each["content"], add_special_tokens=False)) for each in messages)
        added[count] = len(_runtime_tokens(client, prompt)) - contents
    per_message = max(math.ceil((added[4] - added[2]) / 2), math.ceil((added[6] - added[4]) / 2), 0)
    fixed = max(0, *(total - per_message * count for count, total in added.items()))
    return per_message, fixed


def _runtime_tokens(client: httpx.Client, text: str) -> list[int]:
    answer = client.post("/tokenize", json={"content": text, "add_special": False, "parse_special": True})
    answer.raise_for_status()
    return cast("dict[str, list[int]]", answer.json())["tokens"]
