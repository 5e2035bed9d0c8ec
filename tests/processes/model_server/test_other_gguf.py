"""Another GGUF is one setting away: its tokenizer is made from its own vocabulary."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import ensure_artifact
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from tests.processes.model_server.conftest import Start
from tests.processes.model_server.test_generation_artifact import runtime_tokens
from tests.processes.model_server.tiny_gguf import write_tiny_gguf

TEXTS = [
    "The patient's 1234567 claims weren't PAID; I'LL re-submit 2024-11-20.",
    "Größe: 50 µg/mL — ½ Tablette… naïve façade",
    "処方箋 Рецепт 😀👩🏽‍⚕️",
    "  two  spaces\n\n\n\tand\r\na tab   \n ends ",
    "x = {'a': [1, 22, 333, 4444]}  # comment\n\n    return",
]


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    return locate_weights(ModelServerSettings(task="generation", artifacts_dir=tmp_path)).path


@pytest.mark.parametrize("cutting", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_each_known_way_of_cutting_words_is_the_runtime_s(
    tmp_path: Path, packaged: Path, cutting: str
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", vocabulary_of=packaged, cutting=cutting)
    ensure_artifact(ModelServerSettings(task="generation", path=path, artifacts_dir=tmp_path / "models"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "models" / "tiny" / "tokenizer.json"))
    runtime = LlamaRuntime(path, model="tiny", slots=1, context_tokens=256, threads=1)
    runtime.start()

    with httpx.Client(base_url=runtime.address, headers=runtime.authorization, trust_env=False) as client:
        for text in TEXTS:
            assert tokenizer.encode(text, add_special_tokens=False).ids == runtime_tokens(client, text)

    runtime.close()


def test_a_tokenizer_that_differs_from_the_runtime_is_refused(tmp_path: Path, packaged: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", vocabulary_of=packaged, cutting="qwen2")
    ensure_artifact(ModelServerSettings(task="generation", path=packaged, artifacts_dir=tmp_path / "models"))
    other = tmp_path / "models" / packaged.stem / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(other.read_bytes())  # it cuts words in another way

    with pytest.raises(ConfigurationError, match="differs from the runtime"):
        ensure_artifact(ModelServerSettings(task="generation", path=path, artifacts_dir=tmp_path / "models"))


async def test_it_is_served_under_its_own_name(
    client: httpx.AsyncClient, start: Start, tmp_path: Path, packaged: Path
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", vocabulary_of=packaged, cutting="smollm")
    with start("generation", path=path, artifacts_dir=tmp_path / "models", context_tokens=256) as server:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        answer = (await client.post(f"{server.url}/invocations", json=body)).raise_for_status().json()

    assert answer["model"] == "tiny"
    assert answer["usage"]["completion_tokens"] >= 1
