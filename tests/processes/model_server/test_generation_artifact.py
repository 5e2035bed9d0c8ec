"""The tokenizer and the template's facts that are made from a GGUF, against the runtime itself."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import ModelArtifact, ensure_artifact, tokenizer_from_gguf
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from tests.processes.model_server.conftest import write_tiny_gguf

PACKAGED = locate_weights(ModelServerSettings(task="generation")).path
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            ["  ", "\n\n", "\t", " 12345 ", "don't", "I'LL", "<|im_end|>", "½²Ⅷ", "é", "e\u0301", "👩🏽‍⚕️"]
        ),
    ),
    max_size=6,
).map("".join)


@pytest.fixture(scope="module")
def settings(artifacts_dir: Path) -> ModelServerSettings:
    return ModelServerSettings(task="generation", artifacts_dir=artifacts_dir)


@pytest.fixture(scope="module")
def artifact(settings: ModelServerSettings) -> ModelArtifact:
    return ensure_artifact(settings)


@pytest.fixture(scope="module")
def tokenizer(artifact: ModelArtifact, artifacts_dir: Path) -> Tokenizer:
    return Tokenizer.from_file(str(artifacts_dir / artifact.model / "tokenizer.json"))


@pytest.fixture(scope="module")
def runtime() -> Generator[httpx.Client]:
    running = LlamaRuntime(PACKAGED, model="probe", slots=1, context_tokens=512, threads=1)
    running.start()
    with httpx.Client(base_url=running.address, headers=running.authorization, timeout=30) as client:
        yield client
    running.close()


def runtime_tokens(runtime: httpx.Client, text: str) -> list[int]:
    answer = runtime.post("/tokenize", json={"content": text, "parse_special": True, "add_special": False})
    return answer.raise_for_status().json()["tokens"]


@given(text=TEXTS)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_are_the_runtime_s_own(tokenizer: Tokenizer, runtime: httpx.Client, text: str) -> None:
    text = text.replace("\0", "")  # the runtime ends a text there
    assert tokenizer.encode(text, add_special_tokens=False).ids == runtime_tokens(runtime, text)


DIALOGUES: list[list[tuple[str, str]]] = [
    [("system", "Answer from the sources."), ("user", "What is code 79?")],
    [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")],
    [
        ("system", "\nlines\n"),
        ("user", " spaces "),
        ("assistant", "…"),
        ("user", "1"),
        ("assistant", ""),
        ("user", "x"),
    ],
]


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_prompt_counted_by_the_facts_is_never_under_and_hardly_over(
    artifact: ModelArtifact, tokenizer: Tokenizer, runtime: httpx.Client, dialogue: list[tuple[str, str]]
) -> None:
    messages = [{"role": role, "content": content} for role, content in dialogue]
    body: dict[str, Any] = {"messages": messages, "max_tokens": 1}
    used = runtime.post("/v1/chat/completions", json=body).raise_for_status().json()["usage"]["prompt_tokens"]
    assert artifact.template_tokens_fixed is not None
    assert artifact.template_tokens_per_message is not None

    contents = sum(len(tokenizer.encode(content, add_special_tokens=False)) for _, content in dialogue)
    counted = artifact.template_tokens_fixed + len(dialogue) * artifact.template_tokens_per_message + contents

    assert used <= counted <= used + 2 * len(dialogue)


def test_a_vocabulary_of_an_unknown_kind_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "other.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    with pytest.raises(ConfigurationError, match=r"put the model's tokenizer\.json beside"):
        tokenizer_from_gguf(path)


@pytest.mark.parametrize("cutting", ["gpt-2", "llama-bpe", "qwen2"])
def test_each_known_way_of_cutting_words_is_the_runtime_s(tmp_path: Path, cutting: str) -> None:
    """``ensure_artifact`` itself compares a tokenizer with the runtime."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf", vocabulary_of=PACKAGED, cutting=cutting)
    settings = ModelServerSettings(task="generation", path=path, artifacts_dir=tmp_path / "models")

    assert ensure_artifact(settings).model == "tiny"


def test_a_tokenizer_that_differs_from_the_runtime_is_refused(
    tmp_path: Path, artifact: ModelArtifact, artifacts_dir: Path
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", vocabulary_of=PACKAGED, cutting="qwen2")
    other = artifacts_dir / artifact.model / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(other.read_bytes())  # it cuts words in another way

    with pytest.raises(ConfigurationError, match="differs from the runtime"):
        ensure_artifact(ModelServerSettings(task="generation", path=path, artifacts_dir=tmp_path / "models"))
