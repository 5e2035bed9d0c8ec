"""Asks by one client, in the clients' own environment: ``asking.py CLIENT whole|streamed STOP`` prints JSON.

Each asks as its own pages show it: with instructions, with a tool, and with whatever it sends by default.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL, TOKEN = os.environ["ASSISTANT_URL"] + "/v1", os.environ["ASSISTANT_TOKEN"]
INSTRUCTIONS, QUESTION = "Answer as SECRETWORD.", "How long is the wait?"


def look_up(order: str) -> str:
    """Return the state of an order."""
    return f"{order} is on its way"


def by_openai(*, is_streamed: bool, stop: str | None) -> dict[str, Any]:
    import openai

    client = openai.OpenAI(base_url=URL, api_key=TOKEN, max_retries=0)
    tool = {"name": "look_up", "parameters": {"type": "object", "properties": {"order": {"type": "string"}}}}
    call: dict[str, Any] = {
        "model": client.models.list().data[0].id,
        "messages": [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": QUESTION}],
        "tools": [{"type": "function", "function": tool}],
        "stop": stop,
    }
    if not is_streamed:
        raw = client.chat.completions.with_raw_response.create(**call)
        whole = raw.parse()
        assert "system messages" in raw.headers["warning"]
        return _told(
            whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.total_tokens
        )
    text, why, tokens = "", None, 0
    for chunk in client.chat.completions.create(**call, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            text, why = text + (choice.delta.content or ""), choice.finish_reason or why
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
    return _told(text, why, tokens)


def by_langchain(*, is_streamed: bool, stop: str | None) -> dict[str, Any]:
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="default", base_url=URL, api_key=TOKEN, max_retries=0).bind_tools(
        [tool(look_up)]
    )
    messages, more = [("system", INSTRUCTIONS), ("human", QUESTION)], {"stop": [stop]} if stop else {}
    if is_streamed:
        parts = list(model.stream(messages, **more, stream_usage=True))
        said = parts[0]
        for part in parts[1:]:
            said = said + part
    else:
        said = model.invoke(messages, **more)
    assert said.tool_calls == []
    return _told(said.content, said.response_metadata["finish_reason"], said.usage_metadata["total_tokens"])


def by_pydantic_ai(*, is_streamed: bool, stop: str | None) -> dict[str, Any]:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=URL, api_key=TOKEN)
    agent = Agent(OpenAIChatModel("default", provider=provider), instructions=INSTRUCTIONS, tools=[look_up])
    settings: Any = {"stop_sequences": [stop]} if stop else {}
    if is_streamed:
        result = agent.run_stream_sync(QUESTION, model_settings=settings)
        text, usage = "".join(result.stream_text(delta=True)), result.usage
        response = result.response
    else:
        done = agent.run_sync(QUESTION, model_settings=settings)
        text, usage, response = done.output, done.usage, done.response
    usage = usage() if callable(usage) else usage
    return _told(text, response.finish_reason, usage.total_tokens)


def _told(text: Any, why: str | None, tokens: int) -> dict[str, Any]:
    return {"text": text, "finish_reason": why, "tokens": tokens}


CLIENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "openai": by_openai,
    "langchain-openai": by_langchain,
    "pydantic-ai": by_pydantic_ai,
}

if __name__ == "__main__":
    name, way, stopped_by = sys.argv[1:]
    sys.stdout.write(json.dumps(CLIENTS[name](is_streamed=way == "streamed", stop=stopped_by or None)))
