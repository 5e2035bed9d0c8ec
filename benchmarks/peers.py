"""Answers questions by another framework, assembled as its documentation shows.

``build/peers/bin/python -m benchmarks.peers``, which ``benchmarks.load`` starts in an environment of its own:
hybrid retrieval over the documents, by BM25 and by vectors of the product's own embedding model in the same
process, fused by reciprocal ranks; the three best in the prompt; the chat server's stream passed on as the
service's events. It has no authentication, no checks and no records.

Stdin is one line of JSON: ``{"framework": "Haystack", "url": "http://127.0.0.1:5000/v1", "documents":
["…"], "packages": "…/site-packages", "models": "…/models"}``: ``packages`` has what the embedding model needs
and the environment lacks. Stdout gets one line when it listens: ``{"host": "127.0.0.1", "port": 6000}``
(``tools.processes.started``).
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

Ask = Callable[[str, list[float]], AsyncIterator[str]]
"""Takes a question and its vector; yields the pieces of the answer's text as the chat server streams them."""
Embed = Callable[[str], Awaitable[list[float]]]
_SYSTEM = "Answer from these documents."
_TOP_K = 3
_LEG = 10
"""Documents that each of the two searches gives to the fusion."""
_EMBEDDED = 600
"""Characters of a document that its vector is of: the model takes 256 tokens."""


def haystack(url: str, vectors: dict[str, list[float]]) -> Ask:
    from haystack import Document, Pipeline
    from haystack.components.builders import ChatPromptBuilder
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.components.joiners import DocumentJoiner
    from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
    from haystack.dataclasses import ChatMessage
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack.utils import Secret

    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text, embedding=vector) for text, vector in vectors.items()])
    template = [
        ChatMessage.from_system(_SYSTEM + "{% for d in documents %}\n{{ d.content }}{% endfor %}"),
        ChatMessage.from_user("{{ question }}"),
    ]
    flow = Pipeline()
    flow.add_component("words", InMemoryBM25Retriever(store, top_k=_LEG))
    flow.add_component("near", InMemoryEmbeddingRetriever(store, top_k=_LEG))
    flow.add_component("fuse", DocumentJoiner("reciprocal_rank_fusion", top_k=_TOP_K))
    flow.add_component("prompt", ChatPromptBuilder(template, required_variables="*"))
    key = Secret.from_token("none")
    flow.add_component("write", OpenAIChatGenerator(api_key=key, model="stand-in", api_base_url=url))
    for sender, receiver in pairwise(("words.documents", "fuse.documents", "prompt.documents")):
        flow.connect(sender, receiver)
    flow.connect("near.documents", "fuse.documents")
    flow.connect("prompt.prompt", "write.messages")

    async def ask(question: str, vector: list[float]) -> AsyncGenerator[str]:
        near = {"query_embedding": vector}
        asked = {"words": {"query": question}, "near": near, "prompt": {"question": question}}
        async for chunk in flow.stream(asked):
            yield chunk.content

    return ask


def llama_index(url: str, vectors: dict[str, list[float]]) -> Ask:
    from llama_index.core import PromptTemplate, VectorStoreIndex, get_response_synthesizer
    from llama_index.core.embeddings import MockEmbedding
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.retrievers import QueryFusionRetriever
    from llama_index.core.schema import QueryBundle, TextNode
    from llama_index.llms.openai_like import OpenAILike
    from llama_index.retrievers.bm25 import BM25Retriever

    llm = OpenAILike(model="stand-in", api_base=url, api_key="none", is_chat_model=True)
    nodes = [TextNode(text=text, embedding=vector) for text, vector in vectors.items()]
    near = VectorStoreIndex(nodes, embed_model=MockEmbedding(1)).as_retriever(similarity_top_k=_LEG)
    words = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=_LEG)
    fused = QueryFusionRetriever(
        [words, near], llm=llm, num_queries=1, mode="reciprocal_rerank", similarity_top_k=_TOP_K
    )
    template = PromptTemplate(_SYSTEM + "\n{context_str}\n{query_str}")
    synthesizer = get_response_synthesizer(llm=llm, streaming=True, use_async=True, text_qa_template=template)
    engine = RetrieverQueryEngine(fused, synthesizer)

    async def ask(question: str, vector: list[float]) -> AsyncGenerator[str]:
        asked = QueryBundle(question, embedding=vector)
        async for text in (await engine.aquery(asked)).async_response_gen():
            yield text

    return ask


def langchain(url: str, vectors: dict[str, list[float]]) -> Ask:
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_openai import ChatOpenAI
    from rank_bm25 import BM25Okapi

    documents, store = [*vectors], InMemoryVectorStore(DeterministicFakeEmbedding(size=1))
    for text, vector in vectors.items():
        store.store[text] = {"id": text, "text": text, "vector": vector, "metadata": {}}
    words = BM25Okapi([text.split() for text in documents])

    def find(asked: dict) -> dict[str, str]:
        near = store.similarity_search_with_score_by_vector(asked["vector"], k=_LEG)
        by_vector = [found.page_content for found, _ in near]
        by_words = words.get_top_n(asked["question"].split(), documents, n=_LEG)
        scores = Counter()
        for rank, text in (*enumerate(by_words, start=1), *enumerate(by_vector, start=1)):
            scores[text] += 1 / (60 + rank)  # reciprocal rank fusion
        found = "\n".join(text for text, _ in scores.most_common(_TOP_K))
        return {"documents": found, "question": asked["question"]}

    prompt = ChatPromptTemplate([("system", _SYSTEM + "\n{documents}"), ("human", "{question}")])
    llm = ChatOpenAI(model="stand-in", base_url=url, api_key="none")
    chain = RunnableLambda(find) | prompt | llm | StrOutputParser()
    return lambda question, vector: chain.astream({"question": question, "vector": vector})


def application(ask: Ask, embed: Embed) -> Callable[[Scope, Receive, Send], object]:
    """Return an ASGI application that answers ``POST {"question": "…"}`` with the service's events.

    The separators are those of ``benchmarks.load._FIRST_TEXT``, which looks for ``data: {"text":"``.
    """

    async def events(question: str) -> AsyncGenerator[str]:
        async for text in ask(question, await embed(question)):
            if text:
                yield f"event: token\ndata: {json.dumps({'text': text}, separators=(',', ':'))}\n\n"
        yield "event: done\ndata: {}\n\n"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        question = (await Request(scope, receive).json())["question"]
        await StreamingResponse(events(question), media_type="text/event-stream")(scope, receive, send)

    return app


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    sys.path.append(plan["packages"])
    from assistant.domain.clock import Deadline, SystemClock
    from assistant.model_server.here import ModelsHere
    from assistant.tenant.tenant import EmbeddingSection

    embedder = await ModelsHere(Path(plan["models"])).embedder(EmbeddingSection())

    async def embed(question: str) -> list[float]:
        return (await embedder.embed([question], deadline=Deadline.after(60.0, clock=SystemClock())))[0]

    vectors = {text: await embed(text[:_EMBEDDED]) for text in plan["documents"]}
    build = {"Haystack": haystack, "LlamaIndex": llama_index, "LangChain": langchain}[plan["framework"]]
    app = application(build(plan["url"], vectors), embed)
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"host": "127.0.0.1", "port": listener.getsockname()[1]}), flush=True)
    await uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning")).serve([listener])


if __name__ == "__main__":
    asyncio.run(main())
