"""Chat servers that somebody brings: each fault is a typed outcome of the generator, and is refused with what
was seen when the server is configured."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import orjson
import pytest

from assistant.cli.models import ServedOptions, Window, look_at_server, read_key
from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from assistant.service.opened import served_generator
from assistant.stores.ports import ChatMessage, GenerationRequest
from assistant.tenant.added_models import ServedLlm
from tests.stage.sagemaker_runtime import CONTENT_TYPE, payload_part
from tests.stage.servers import (
    TEXT,
    Exchange,
    Script,
    answers,
    chunk,
    end,
    head,
    never_starts,
    refuses,
    scripted_http,
    serves_pages,
    streams,
)

REQUEST = GenerationRequest((ChatMessage("user", "When?"),), max_tokens=20, temperature=0.0)
KEY = "sk-not-for-logs"


def served(url: str, **more: object) -> ServedLlm:
    given = {"name": "tall", "model": "tall", "url": f"{url}/v1", "context_tokens": 4096, **more}
    return ServedLlm.model_validate(given)


async def ask(
    model: ServedLlm, *, limit_s: float = 60.0, request: GenerationRequest = REQUEST
) -> tuple[str, Usage | None]:
    deadline = Deadline.after(limit_s, clock=SystemClock())
    async with AsyncExitStack() as stack:
        generator = await served_generator(model, stack)
        async with generator.stream(request, deadline=deadline) as stream:
            deltas = [delta async for delta in stream]
    return "".join(delta.text for delta in deltas), deltas[-1].usage


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(f"{KEY}\n")
    return path


async def test_a_chat_server_s_answer_is_an_endpoint_s(key_file: Path) -> None:
    async with scripted_http(answers()) as server:
        text, usage = await ask(served(server.url, key_file=key_file))

    assert (text, usage) == (TEXT, Usage(prompt_tokens=20, completion_tokens=9))
    asked = server.exchanges[0]
    assert asked.target == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert orjson.loads(asked.body)["model"] == "tall"


async def test_a_kept_connection_that_the_server_has_closed_is_replaced() -> None:
    """llama.cpp and uvicorn close an idle connection after 5 s, perhaps just as a request goes."""
    answered_on: list[int] = []

    async def script(exchange: Exchange) -> None:
        if exchange.connection == 0 and answered_on:
            exchange.cut()
            return
        answered_on.append(exchange.connection)
        await exchange.respond_in_chunks(chunk(TEXT) + end(), Content_Type="text/event-stream")

    deadline = Deadline.after(60.0, clock=SystemClock())
    async with scripted_http(script) as server, AsyncExitStack() as stack:
        generator = await served_generator(served(server.url), stack)
        for _ in range(2):
            async with generator.stream(REQUEST, deadline=deadline) as stream:
                assert "".join([delta.text async for delta in stream]) == TEXT

    assert answered_on == [0, 1]


async def test_of_an_error_that_never_ends_nothing_more_is_read() -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.write(head(500, length=None, Content_Type="application/json"))
        with suppress(ConnectionError):
            while True:
                await exchange.write(b"%x\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20)))
                sent += 1

    async with scripted_http(script) as server:
        with pytest.raises(GenerationUnavailableError, match="status 500"):
            await ask(served(server.url))
    assert sent < 8  # what the sockets hold


HALF = chunk(TEXT) + b'data: {"choices": [{"delta": {"con'
FAULTS = [
    pytest.param(refuses(400), GenerationUnavailableError, "status 400", id="bad request"),
    pytest.param(refuses(401), GenerationUnavailableError, "--key-file", id="no key"),
    pytest.param(refuses(404), GenerationUnavailableError, "mostly /v1", id="no such path"),
    pytest.param(refuses(429), OverloadedError, "overloaded", id="overloaded"),
    pytest.param(refuses(500), GenerationUnavailableError, "status 500", id="failure"),
    pytest.param(refuses(503), GenerationUnavailableError, "status 503", id="unavailable"),
    pytest.param(serves_pages, GenerationUnavailableError, "<html>Welcome", id="a web site"),
    pytest.param(refuses(200, b"{}"), GenerationUnavailableError, "application/json", id="no stream"),
    pytest.param(streams([]), GenerationUnavailableError, "in the middle", id="an empty stream"),
    pytest.param(streams([b'data: {"a": 1}\n\n']), GenerationUnavailableError, "no chat", id="other JSON"),
    pytest.param(streams([HALF]), GenerationInterruptedError, "in the middle", id="half a JSON"),
    pytest.param(streams([HALF], breaks=True), GenerationInterruptedError, "answer", id="a broken stream"),
]


@pytest.mark.parametrize(("script", "error", "said"), FAULTS)
async def test_a_fault_is_a_typed_error_of_the_port_and_refused_with_what_was_seen(
    script: Script, error: type[AssistantError], said: str
) -> None:
    async with scripted_http(script) as server:
        with pytest.raises(error):
            await ask(served(server.url))
        with pytest.raises(ConfigurationError) as raised:
            await look_at_server(served(server.url), key=None)

    assert server.url in raised.value.message
    assert said in raised.value.message


async def test_a_server_that_does_not_begin_in_time_is_late() -> None:
    async with scripted_http(never_starts) as server:
        with pytest.raises(DeadlineExceededError):
            await ask(served(server.url), limit_s=0.5)


async def test_questions_do_not_follow_a_redirect_to_a_host_that_nobody_named() -> None:
    async with scripted_http(answers()) as other:
        moved = refuses(307, Location=f"{other.url}/v1/chat/completions")
        async with scripted_http(moved) as server:
            with pytest.raises(GenerationUnavailableError):
                await ask(served(server.url))
            with pytest.raises(ConfigurationError, match="redirects to"):
                await look_at_server(served(server.url), key=None)

    assert other.exchanges == []


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ({"max_model_len": 8192}, 8192),
        ({"context_length": 16384}, 16384),
        ({"meta": {"n_ctx_train": 2048}}, 2048),
        ({"meta": {"n_ctx_train": 131072}}, 4096),
        ({"max_model_len": "long", "meta": 7}, None),
        ({}, None),
    ],
)
async def test_the_context_is_what_the_server_tells(listed: dict[str, object], told: int | None) -> None:
    async with scripted_http(answers(listed=listed)) as server:
        assert await look_at_server(served(server.url), key=None) == Window(told)


@pytest.mark.parametrize(
    ("given", "parameters", "tokens", "advice"),
    [
        (4096, "temperature 0.7", 4096, "4096 of the model's 131072 tokens: .*LENGTH=32768 ollama serve"),
        (
            8192,
            "num_ctx    8192",
            8192,
            r"PARAMETER num_ctx 32768\\n' > Modelfile && ollama create tall-long",
        ),
        (None, "num_ctx 2048", 2048, "PARAMETER num_ctx"),
        (None, "", 4096, "ollama serve"),
        (65536, "", 65536, "^$"),
    ],
)
async def test_ollama_tells_what_a_model_was_given_and_how_to_raise_it(
    given: int | None, parameters: str, tokens: int, advice: str
) -> None:
    entry = {"model": "tall:latest"} | ({} if given is None else {"context_length": given})
    facts = {"general.architecture": "llama", "llama.context_length": 131072}
    api = {"/api/ps": {"models": [entry]}, "/api/show": {"parameters": parameters, "model_info": facts}}
    async with scripted_http(answers(beside=api)) as server:
        window = await look_at_server(served(server.url), key=None)

    assert window.tokens == tokens
    assert re.search(advice, window.advice)


async def test_an_error_that_repeats_the_key_is_told_without_it(key_file: Path) -> None:
    async with scripted_http(refuses(401, f"wrong key {KEY}".encode())) as server:
        with pytest.raises(ConfigurationError, match="wrong key …") as raised:
            await look_at_server(served(server.url, key_file=key_file), key=read_key(key_file))

    assert KEY not in raised.value.message


async def test_a_key_file_that_is_gone_is_unavailable_and_asks_nobody(tmp_path: Path) -> None:
    async with scripted_http(answers()) as server:
        with pytest.raises(GenerationUnavailableError):
            await ask(served(server.url, key_file=tmp_path / "gone"))

    assert server.exchanges == []


def test_a_key_that_every_user_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_key(key_file)


# An endpoint on AWS.


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "AKIDOFTEST")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return monkeypatch


async def test_an_endpoint_on_aws_is_called_with_the_usual_credentials_and_passed_through(
    aws: pytest.MonkeyPatch,
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(payload_part(chunk(TEXT) + end()), Content_Type=CONTENT_TYPE)

    async with scripted_http(script) as runtime:
        aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", runtime.url)
        text, _ = await ask(ServedOptions(endpoint="our-llm").described())

    assert text == TEXT
    asked = runtime.exchanges[0]
    assert asked.target == "/endpoints/our-llm/invocations-response-stream"
    assert "AKIDOFTEST" in asked.headers["authorization"]
    assert "/eu-central-1/sagemaker/" in asked.headers["authorization"]
