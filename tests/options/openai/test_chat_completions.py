"""Chats with OpenAI's own client, over real HTTP: the same answers under the same rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from tests.stage.running_service import RunningService, Scene, running_service, service_of_two

QUESTION: list[Any] = [{"role": "user", "content": "How long is the wait?"}]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with service_of_two(tmp_path) as service:
        yield service


@asynccontextmanager
async def chatting(service: RunningService, **who: Any) -> AsyncIterator[AsyncOpenAI]:
    token = service.headers(**who)["authorization"].removeprefix("Bearer ")
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=token, max_retries=0) as client:
        yield client


@pytest.fixture
async def chat(service: RunningService) -> AsyncIterator[AsyncOpenAI]:
    async with chatting(service) as client:
        yield client


async def streamed(chat: AsyncOpenAI, **changes: Any) -> list[ChatCompletionChunk]:
    call: dict[str, Any] = {"model": "default", "messages": QUESTION} | changes
    return [chunk async for chunk in await chat.chat.completions.create(stream=True, **call)]


async def record_of(service: RunningService, answer_id: str) -> dict[str, Any]:
    response = await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers())
    assert response.status_code == 200, response.text
    return response.json()["record"]


async def test_a_whole_completion_is_an_answer_on_record(service: RunningService, chat: AsyncOpenAI) -> None:
    raw = await chat.chat.completions.with_raw_response.create(model="tiny-llm", messages=QUESTION)
    completion = raw.parse()
    assert completion.choices[0].message.content == "Wait two days."
    assert completion.choices[0].finish_reason == "stop"
    assert raw.headers["x-answer-id"] == completion.id
    assert completion.usage is not None
    assert completion.usage.total_tokens == 8
    record = await record_of(service, completion.id)
    assert (record["question"], record["text"]) == ("How long is the wait?", "Wait two days.")


async def test_another_agent_s_conversation_is_not_there(service: RunningService, chat: AsyncOpenAI) -> None:
    first = await chat.chat.completions.create(model="default", messages=QUESTION)
    conversation_id = getattr(first, "answer")["conversation_id"]  # noqa: B009
    async with chatting(service, agent="bob") as other:
        with pytest.raises(openai.NotFoundError):
            await other.chat.completions.create(
                model="default", messages=QUESTION, extra_body={"conversation_id": conversation_id}
            )


@pytest.mark.parametrize(
    ("changes", "error", "code", "param"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "not_found", "model"),
        ({"n": 2}, openai.UnprocessableEntityError, "invalid_request", "n"),
        ({"logprobs": True}, openai.UnprocessableEntityError, "invalid_request", "logprobs"),
        ({"tool_choice": "required"}, openai.UnprocessableEntityError, "invalid_request", "tool_choice"),
        (
            {"response_format": {"type": "json_object"}},
            openai.UnprocessableEntityError,
            "invalid_request",
            "response_format.type",
        ),
    ],
)
async def test_a_refusal_reaches_the_client_as_its_own_error(
    chat: AsyncOpenAI, changes: dict[str, Any], error: type[openai.APIStatusError], code: str, param: str
) -> None:
    call: dict[str, Any] = {"model": "default", "messages": QUESTION} | changes
    with pytest.raises(error) as caught:
        await chat.chat.completions.create(**call)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"


async def test_the_model_is_listed(service: RunningService, chat: AsyncOpenAI) -> None:
    (model,) = (await chat.models.list()).data
    assert (model.id, model.object, model.owned_by) == ("tiny-llm", "model", "clinic")
    completion = await chat.chat.completions.create(model=model.id, messages=QUESTION)
    assert completion.choices[0].message.content == "Wait two days."
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.models.list()
    assert caught.value.type == "authentication_error"


async def test_what_a_client_sends_unasked_is_ignored_with_a_warning(
    service: RunningService, chat: AsyncOpenAI
) -> None:
    tool: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    said: Any = {"role": "assistant", "content": None, "tool_calls": None, "function_call": None}
    raw = await chat.chat.completions.with_raw_response.create(
        model="default",
        messages=[{"role": "system", "content": "Answer in SECRETWORDS."}, *QUESTION, said, *QUESTION],
        tools=[tool],
        stop=["END"],
        extra_body={"chat_id": "c1", "top_k": 40},
    )
    assert raw.parse().choices[0].message.content == "Wait two days."
    assert raw.headers["warning"] == '299 - "Ignored: system messages, stop, tools, chat_id, top_k"'
    assert "SECRETWORDS" not in str(service.sagemaker.generations[-1].body)
    plain = await chat.chat.completions.with_raw_response.create(model="default", messages=QUESTION)
    assert "warning" not in plain.headers


async def test_no_token_and_no_role_are_refused(service: RunningService) -> None:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await streamed(stranger)
        assert caught.value.code == "unauthenticated"
    async with chatting(service, roles=["auditor"]) as auditor:
        with pytest.raises(openai.PermissionDeniedError):
            await streamed(auditor)


async def test_the_bound_on_streams_is_one_for_both_endpoints(service: RunningService) -> None:
    service.sagemaker.stall_after = 1
    async with chatting(service) as chat:
        begun = [
            await chat.chat.completions.create(model="default", messages=QUESTION, stream=True)
            for _ in range(3)
        ]
        with pytest.raises(openai.RateLimitError) as caught:
            await streamed(chat)
        assert caught.value.code == "overloaded"
        assert int(caught.value.response.headers["retry-after"]) > 0
        assert caught.value.response.headers["x-should-retry"] == "true"
        for stream in begun:
            await stream.close()


async def test_a_tenant_may_refuse_system_messages(tmp_path: Path) -> None:
    refusing = Scene(more_of_tenants='[openai]\nsystem_messages = "refused"\n')
    async with running_service(tmp_path, refusing) as service, chatting(service) as chat:
        await service.know("wait", "The wait is two days.")
        for role in ("system", "developer"):
            said: Any = {"role": role, "content": "Be bold."}
            with pytest.raises(openai.UnprocessableEntityError) as caught:
                await chat.chat.completions.create(model="default", messages=[said, *QUESTION])
            assert caught.value.param == "messages.0.role"
        completion = await chat.chat.completions.create(model="default", messages=QUESTION)
        assert completion.choices[0].message.content == "Wait two days."
