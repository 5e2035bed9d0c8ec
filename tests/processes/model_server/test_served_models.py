"""A chat server that is brought by its URL, and how its model is questioned and chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.cli.models import ServedOptions, list_models, use_model, use_served_model
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.evaluation.check_pairs import load_check_pairs
from assistant.evaluation.model_questions import REFUSAL, load_model_questions
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.weights import locate_weights
from assistant.models.artifacts import model_elsewhere
from assistant.process.settings import ModelServerSettings
from assistant.tenant.added_models import ServedLlm, TenantModels
from assistant.terminal.terminal import GlobalOptions
from tests.processes.model_server.conftest import write_tiny_gguf
from tests.stage.servers import Script, answers, refuses, renders, serving


@pytest.fixture
def options(tmp_path: Path) -> GlobalOptions:
    (tmp_path / "tenants").mkdir()
    for name in ("shop", "branch"):
        (tmp_path / "tenants" / f"{name}.toml").write_text(
            f'schema_version = 1\nname = "{name}"\ndisplay_name = "{name}"\n'
        )
    return GlobalOptions(tmp_path / "tenants", tmp_path / "state", None, json=False)


def reply(change: Callable[[str], str] = str) -> Callable[[dict[str, object]], str]:
    """Return a model that knows the shipped answers, changed by ``change``."""
    shipped = load_model_questions()
    lines = {name: text.strip().splitlines() for name, text in shipped.documents.items()}
    right = {
        one.question: " ".join(f"{lines[one.document][int(unit[2:]) - 1]} [{unit}]" for unit in one.units)
        for one in shipped.questions
    }

    def answer(body: dict[str, object]) -> str:
        messages = body["messages"]
        assert isinstance(messages, list)
        question = str(messages[-1]["content"]).rpartition("Question: ")[2]
        return change(right.get(question) or REFUSAL)

    return answer


def checks(wrong: int, marked: int) -> Callable[[dict[str, object]], str]:
    """Return a model that knows the shipped answers and pairs, but calls the first ``wrong`` planted errors
    held and the first ``marked`` true sentences not held."""
    write, sentences = reply(), [each for one in load_check_pairs().answers for each in one.sentences]
    errors = [each.text for each in sentences if each.planted][wrong:]
    refused = errors + [each.text for each in sentences if not each.planted][:marked]

    def answer(body: dict[str, object]) -> str:
        messages = body["messages"]
        assert isinstance(messages, list)
        _, found, asked = str(messages[-1]["content"]).partition("<sentences>\n")
        if not found:
            return write(body)
        lines = asked.partition("\n</sentences>")[0].splitlines()
        told = ["not_held" if any(text in line for text in refused) else "held" for line in lines]
        verdicts = [
            {"n": n, "line": None, "words": "", "verdict": verdict} for n, verdict in enumerate(told, 1)
        ]
        return json.dumps({"sentences": verdicts})

    return answer


@pytest.mark.parametrize(("wrong", "marked", "is_believed"), [(4, 2, True), (5, 0, False), (0, 3, False)])
def test_a_check_is_believed_once_the_model_named_planted_errors_and_left_true_sentences(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str], *, wrong: int, marked: int, is_believed: bool
) -> None:
    with serving(answers(checks(wrong, marked), listed={"max_model_len": 8192})) as url:
        use_served_model(options, tenants=["shop"], served=ServedOptions(url=url, model="tall"))

    said = capsys.readouterr().err
    assert f"names {40 - wrong} of 40 planted errors, marks {marked} of 40 true sentences" in said
    assert ("the page says *not checked*" in said) == (not is_believed)
    model = chosen(options)
    assert isinstance(model, ServedLlm)
    assert model_elsewhere(model)[0].checks == is_believed
    counts = model.answering.sentence_check
    assert counts is not None
    assert (counts.named, counts.marked) == (40 - wrong, marked)


def chosen(options: GlobalOptions, tenant: str = "shop") -> object:
    return options.local_models([tenant])[tenant].generation


def test_a_model_that_answers_the_questions_may_write(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answers(reply(), listed={"max_model_len": 8192})) as url:
        served = ServedOptions(url=url, model="tall")
        use_served_model(options, tenants=["shop", "branch"], served=served)

    said = capsys.readouterr()
    assert "context of 8192 tokens (the server)" in said.err
    assert "cites the right unit in 14 of 14 answers" in said.err
    model = chosen(options)
    assert isinstance(model, ServedLlm)
    assert (model.url, model.answering.writes_answers, chosen(options, "branch")) == (url, True, model)
    assert options.local_models(["shop"])["shop"].writes(options.tenant("shop"))
    assert model.key_file is None
    assert "names 0 of 40 planted errors" in said.err  # it gave no verdicts
    assert model.token_ratio is not None
    assert f"times {model.token_ratio:.2f} as the server counts" in said.err

    list_models(GlobalOptions(options.tenants_dir, options.state_dir, None, json=True))
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert (rows[model.name]["url"], rows[model.name]["used_by"]) == (url, ["branch", "shop"])
    use_model(options, tenant="shop", name=None)
    assert options.local_models(["shop"])["shop"] == TenantModels()


def test_a_model_below_the_bound_is_used_and_does_not_write(
    options: GlobalOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answers(reply(lambda right: right.partition(" [")[0]))) as url:
        use_served_model(options, tenants=["shop"], served=ServedOptions(url=url, model="tall"))

    said = capsys.readouterr().err
    assert "in 0 of 14 answers" in said
    assert "they stay quoted" in said
    assert "context of 4096 tokens (default; " in said
    model = chosen(options)
    assert isinstance(model, ServedLlm)
    assert not model.answering.writes_answers
    assert model.answering.sentence_check is None  # it was not asked


GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
"""The template of google/gemma-2-9b-it (tokenizer_config.json), which refuses a system message."""


def test_a_model_reads_the_rules_in_the_turn_that_its_template_has(options: GlobalOptions) -> None:
    prompts: list[str] = []
    with serving(renders(GEMMA, prompts, reply())) as url:
        served = ServedOptions(url=url, model="tall", system_role=False)
        use_served_model(options, tenants=["shop"], served=served)

    model = chosen(options)
    assert isinstance(model, ServedLlm)
    assert (model.answering.writes_answers, model.answering.system_role) == (True, False)
    rules = "<start_of_turn>user\nYou answer questions of customer-care agents."
    assert sum(rules in prompt for prompt in prompts) == len(load_model_questions().questions)


def test_a_template_without_a_system_role_is_told_from_its_refusal(options: GlobalOptions) -> None:
    said = "System role not supported.* add --no-system-role"
    with serving(renders(GEMMA, [], reply())) as url, pytest.raises(ConfigurationError, match=said):
        use_served_model(options, tenants=["shop"], served=ServedOptions(url=url, model="tall"))

    assert chosen(options) is None


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        (refuses(404), {}, "status 404"),
        (
            answers(listed={"max_model_len": 2048}),
            {"context_tokens": 4096},
            "fewer than --context-tokens 4096",
        ),
        (answers(), {"tokenizer": Path("/nowhere/tokenizer.json")}, "tokenizer"),
        (answers(), {"sends_questions_to": "example.com"}, "is not the host of the URL"),
    ],
)
def test_what_is_refused_is_not_chosen(
    options: GlobalOptions, script: Script, more: dict[str, object], said: str
) -> None:
    with serving(script) as url, pytest.raises(AssistantError, match=said):
        use_served_model(
            options,
            tenants=["shop"],
            served=ServedOptions(url=url, model="tall", **more),  # type: ignore[arg-type]
        )

    assert chosen(options) is None
    assert not (options.state_dir / "models").exists()


def test_a_llama_cpp_server_is_taken_with_its_key_and_its_context(
    options: GlobalOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged = locate_weights(ModelServerSettings(task="generation")).path
    weights = write_tiny_gguf(tmp_path / "tiny.gguf", vocabulary_of=packaged, cutting="smollm")
    runtime = LlamaRuntime(weights, model="tiny", slots=1, context_tokens=1024, threads=2)
    runtime.start()
    key_file = tmp_path / "key"
    key_file.touch(mode=0o600)
    key_file.write_text(runtime.api_key)
    try:
        served = ServedOptions(url=f"{runtime.address}/v1", model="tiny", key_file=key_file)
        use_served_model(options, tenants=["shop"], served=served)
    finally:
        runtime.close()

    model = chosen(options)
    assert isinstance(model, ServedLlm)
    assert (model.context_tokens, model.answering.writes_answers) == (1024, False)
    written = b"".join(path.read_bytes() for path in options.state_dir.rglob("*") if path.is_file())
    said = capsys.readouterr()
    assert runtime.api_key not in said.out + said.err + written.decode()
