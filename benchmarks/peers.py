"""Answers questions by another framework, assembled as its documentation shows.

``build/peers/bin/python -m benchmarks.peers``, which ``benchmarks.load`` starts in an environment of its own:
BM25 over the documents, the three best in the prompt, the chat server's stream passed on as the service's
events. It has no authentication, no checks and no records.

Stdin is one line of JSON: ``{"framework": "Haystack", "url": "http://127.0.0.1:5000/v1", "documents":
["…"]}``. Stdout gets one line when it listens: ``{"host": "127.0.0.1", "port": 6000}``
(``tools.processes.started``).
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import uvicorn
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

Ask = Callable[[str], AsyncIterator[str]]
"""Takes a question; yields the pieces of the answer's text as the chat server streams them."""
_SYSTEM = "Answer from these documents."
_TOP_K = 3


def haystack(url: str, documents: list[str]) -> Ask:
    from haystack import Document, Pipeline
    from haystack.components.builders import ChatPromptBuilder
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.components.retrievers import InMemoryBM25Retriever
    from haystack.dataclasses import ChatMessage
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack.utils import Secret

    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text) for text in documents])
    template = [
        ChatMessage.from_system(_SYSTEM + "{% for d in documents %}\n{{ d.content }}{% endfor %}"),
        ChatMessage.from_user("{{ question }}"),
    ]
    writer = OpenAIChatGenerator(api_key=Secret.from_token("none"), model="stand-in", api_base_url=url)
    flow = Pipeline()
    flow.add_component("find", InMemoryBM25Retriever(store, top_k=_TOP_K))
    flow.add_component("prompt", ChatPromptBuilder(template, required_variables="*"))
    flow.add_component("write", writer)
    flow.connect("find.documents", "prompt.documents")
    flow.connect("prompt.prompt", "write.messages")

    async def ask(question: str) -> AsyncGenerator[str]:
        async for chunk in flow.stream({"find": {"query": question}, "prompt": {"question": question}}):
            yield chunk.content

    return ask


def llama_index(url: str, documents: list[str]) -> Ask:
    from llama_index.core import PromptTemplate, get_response_synthesizer
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.schema import TextNode
    from llama_index.llms.openai_like import OpenAILike
    from llama_index.retrievers.bm25 import BM25Retriever

    llm = OpenAILike(model="stand-in", api_base=url, api_key="none", is_chat_model=True)
    engine = RetrieverQueryEngine(
        BM25Retriever.from_defaults(
            nodes=[TextNode(text=text) for text in documents], similarity_top_k=_TOP_K
        ),
        get_response_synthesizer(
            llm=llm,
            streaming=True,
            use_async=True,
            text_qa_template=PromptTemplate(_SYSTEM + "\n{context_str}\n{query_str}"),
        ),
    )

    async def ask(question: str) -> AsyncGenerator[str]:
        async for text in (await engine.aquery(question)).async_response_gen():
            yield text

    return ask


def langchain(url: str, documents: list[str]) -> Ask:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough
    from langchain_openai import ChatOpenAI
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([text.split() for text in documents])
    texts = RunnableLambda(lambda question: "\n".join(index.get_top_n(question.split(), documents, n=_TOP_K)))
    prompt = ChatPromptTemplate([("system", _SYSTEM + "\n{documents}"), ("human", "{question}")])
    llm = ChatOpenAI(model="stand-in", base_url=url, api_key="none")
    return (
        {"documents": texts, "question": RunnablePassthrough()} | prompt | llm | StrOutputParser()
    ).astream


def application(ask: Ask) -> Callable[[Scope, Receive, Send], object]:
    """Return an ASGI application that answers ``POST {"question": "…"}`` with the service's events.

    The separators are those of ``benchmarks.load._FIRST_TEXT``, which looks for ``data: {"text":"``.
    """

    async def events(question: str) -> AsyncGenerator[str]:
        async for text in ask(question):
            if text:
                yield f"event: token\ndata: {json.dumps({'text': text}, separators=(',', ':'))}\n\n"
        yield "event: done\ndata: {}\n\n"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        question = (await Request(scope, receive).json())["question"]
        await StreamingResponse(events(question), media_type="text/event-stream")(scope, receive, send)

    return app


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    build = {"Haystack": haystack, "LlamaIndex": llama_index, "LangChain": langchain}[plan["framework"]]
    app = application(build(plan["url"], plan["documents"]))
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"host": "127.0.0.1", "port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning")).run([listener])


if __name__ == "__main__":
    main()
