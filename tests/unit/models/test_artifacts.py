from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from assistant.domain.errors import ConfigurationError
from assistant.models.artifacts import (
    CharacterTokenCounter,
    FileTokenCounter,
    model_elsewhere,
    read_model_facts,
    served_generation_model,
)
from assistant.tenant.added_models import ServedLlm
from assistant.tenant.manifests import WRITER

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


@pytest.mark.parametrize(
    ("answering", "trusted"),
    [
        ({}, (False, True, None)),
        ({"writes_answers": True, "system_role": False, "reads_tokens": 900}, (True, False, 900)),
        ({"writes_answers": True, "prompt": "answer/4", "history_turns": 1}, (True, True, None)),
    ],
    ids=["nobody vouches for it", "said", "of a release that named the prompt"],
)
def test_a_chat_model_s_facts_and_its_trust_reach_answering(
    tmp_path: Path, answering: dict[str, object], trusted: tuple[bool, bool, int | None]
) -> None:
    served = served_generation_model(write(tmp_path, CHAT_MODEL | {"answering": answering}), "m")
    assert (served.model_id, served.digest) == ("m", "d")
    assert (served.template_tokens_per_message, served.template_tokens_per_prompt) == (4, 7)
    assert (served.writes_answers, served.system_role, served.reads_tokens) == trusted


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


ELSEWHERE = ServedLlm(
    name="tall",
    model="tall:8b",
    url="http://127.0.0.1:11434/v1",
    context_tokens=8192,
    answering=WRITER.model_copy(update={"reads_tokens": 900}),
)


def test_a_model_elsewhere_has_no_digest_and_room_for_its_template() -> None:
    served, counter = model_elsewhere(ELSEWHERE)

    assert (served.model_id, served.digest, served.writes_answers) == ("tall", None, True)
    assert served.reads_tokens == 900
    assert min(served.template_tokens_per_message, served.template_tokens_per_prompt) > 0
    assert isinstance(counter, CharacterTokenCounter)


def test_characters_are_counted_as_more_tokens_than_a_tokenizer_makes_of_them() -> None:
    counter = CharacterTokenCounter()

    assert counter.count("Refill too soon") == 5  # 15 letters and blanks
    assert counter.count("0800 555-0143") == 13  # ceil(1 / 3) + 12
    assert counter.count("処方箋") == 3
    assert CharacterTokenCounter(0.5).count("0800 555-0143") == 7
    _, counter = model_elsewhere(ELSEWHERE.model_copy(update={"token_ratio": 2.0}))
    assert counter.count("処方箋") == 6
