from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from assistant.answering.generate import FileTokenCounter
from assistant.domain.errors import ConfigurationError
from assistant.model_artifacts import read_model_facts, served_generation_model

CHAT_MODEL = {
    "schema_version": 1,
    "model": "m",
    "digest": "d",
    "max_input_tokens": 2048,
    "template_tokens_per_message": 4,
    "template_tokens_fixed": 7,
    "a_later_fact": True,
}


def write(folder: Path, content: object) -> Path:
    (folder / "m").mkdir()
    (folder / "m" / "artifact.json").write_bytes(orjson.dumps(content))
    return folder


def test_a_chat_model_s_facts_reach_answering(tmp_path: Path) -> None:
    served = served_generation_model(write(tmp_path, CHAT_MODEL), "m")
    assert (served.model_id, served.digest) == ("m", "d")
    assert (served.template_tokens_per_message, served.template_tokens_per_prompt) == (4, 7)


def test_what_the_model_is_trusted_with_reaches_answering(tmp_path: Path) -> None:
    answering = {"writes_answers": True, "prompt": "answer/2", "passages": 5, "history_turns": 1}
    served = served_generation_model(write(tmp_path, CHAT_MODEL | {"answering": answering}), "m")
    assert (served.writes_answers, served.prompt, served.passages, served.history_turns) == (
        True,
        "answer/2",
        5,
        1,
    )


def test_a_model_that_nobody_vouches_for_does_not_write(tmp_path: Path) -> None:
    served = served_generation_model(write(tmp_path, CHAT_MODEL), "m")
    assert (served.writes_answers, served.prompt, served.passages) == (False, "answer/1", 2)


def test_a_missing_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"m/artifact\.json"):
        read_model_facts(tmp_path, "m")


@pytest.mark.parametrize("content", [{}, [], CHAT_MODEL | {"schema_version": 2}])
def test_an_artifact_of_another_schema_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ConfigurationError, match="schema 1"):
        read_model_facts(write(tmp_path, content), "m")


def test_an_embedding_model_is_no_chat_model(tmp_path: Path) -> None:
    facts = {key: value for key, value in CHAT_MODEL.items() if not key.startswith("template")}
    with pytest.raises(ConfigurationError, match="chat template"):
        served_generation_model(write(tmp_path, facts), "m")


def test_a_shipped_truncation_does_not_cut_a_count(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert FileTokenCounter(tmp_path / "tokenizer.json").count("a " * 100) == 100


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        FileTokenCounter(tmp_path / "tokenizer.json").load()
