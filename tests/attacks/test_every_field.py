"""Active content in each place of a document, and each field of each way to get an answer.

A document's author is not trusted: a title, a heading or a row may be an image that tells
a stranger who asked.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import orjson
import pytest
import pytest_asyncio
from markdown_it import MarkdownIt

from assistant.domain.documents import Document
from tests.attacks.active_content import hidden_content
from tests.attacks.scene import Mode, attacked_service, bring, without_quotes
from tests.fakes.running_service import RunningService, events_of

in_module_loop = pytest.mark.asyncio(loop_scope="module")
PAYLOADS = {
    "image": "![x](https://evil.example/x.png?q=1)",
    "image-by-reference": "![x][y] [y]: https://evil.example/x.png",
    "script-link": "[click](javascript:alert(1))",
    "html-image": "<img src=https://evil.example/x onerror=alert(1)>",
    "html-cut-off": "<img src='https://evil.example/x",
    "data-link": "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "autolink": "<https://evil.example/x>",
    "bare": "https://evil.example/x",
    "entity": "&lt;img src=x&gt; ![x](htt&#112;s://evil.example)",
}
QUESTION = "How long is the wait for the plan?"
STREAM = "text/event-stream"
URL = "https://docs.example/a)![x](https://evil.example/x.png"


def hostile(document_id: str, payload: str) -> Document:
    """Return a page whose every text holds the payload: escaped, for a page's own markup is dropped."""
    words = html.escape(payload)
    content = f"""<h1>Wait {words}</h1>
<h2>When this applies {words}</h2>
<p>The wait is two days {words} for the plan. Ask the plan {words} again.</p>
<ol><li>Look at the wait {words} of the plan.</li></ol>
<table><tr><th>Plan</th><th>Wait</th></tr><tr><td>The plan {words}</td><td>two days {words}</td></tr></table>
<h2>What to tell the patient</h2>
<p>&quot;Your wait {words} is two days.&quot;</p>
"""
    return Document(
        document_id=document_id,
        title=f"Wait for the plan {payload}",
        content=content,
        media_type="text/html",
        source="handbook",
        url=URL,
    )


MODES: list[Mode] = ["quoted", "written"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=MODES)
async def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningService]:
    async with attacked_service(tmp_path_factory.mktemp(request.param), mode=request.param) as service:
        service.sagemaker.texts = ("The wait is two days ![x](https://evil.example/x.png) for the plan.",)
        yield service


async def bodies(service: RunningService, name: str, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return what each way of asking gives, decoded: whole, streamed, resumed, read back, and as a chat."""
    filters = {"document_id": list(names) or [f"{name}-1", f"{name}-2"]}
    asked = {"question": QUESTION, "filters": filters, "resume_window_s": 15}
    headers = service.headers() | {"idempotency-key": name}
    chat: dict[str, Any] = {
        "model": "default",
        "messages": [{"role": "user", "content": QUESTION}],
        "filters": filters,
    }

    async def call(method: str, path: str, *, accept: str = "application/json", **more: Any) -> str:
        response = await service.client.request(method, path, headers=headers | {"accept": accept}, **more)
        assert response.status_code == 200, response.text
        await service.idle()
        return response.text

    streamed = events_of(await call("POST", "/v1/answers", accept=STREAM, json=asked))
    answer_id = streamed[0][1]["answer_id"]
    found: dict[str, Any] = {
        "streamed": streamed,
        "repeated": orjson.loads(await call("POST", "/v1/answers", json=asked)),
        "resumed": events_of(await call("GET", f"/v1/answers/{answer_id}/events")),
        "read": orjson.loads(await call("GET", f"/v1/answers/{answer_id}")),
    }
    del headers["idempotency-key"]
    found["chat"] = orjson.loads(await call("POST", "/v1/chat/completions", json=chat))
    lines = (await call("POST", "/v1/chat/completions", json=chat | {"stream": True})).split("\n")
    chunks = [orjson.loads(line[len("data: ") :]) for line in lines if line.startswith("data: {")]
    found["chat-streamed"] = chunks
    contents = (choice["delta"].get("content") or "" for one in chunks for choice in one["choices"])
    tokens = [data["text"] for event, data in streamed if event == "token"]
    sentences = [data for event, data in streamed if event == "sentence"]
    found["joined"] = [{"content": "".join(contents)}, {"text": "".join(tokens), "sentences": sentences}]
    return found


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, text) of all texts; what the agent asked stays out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("question", "retrieval_question"):
                yield from leaves(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner, name)
    elif isinstance(value, str):
        yield name, value


def markdown_of(value: Any) -> Iterator[str]:
    """Yield what a client draws as Markdown: contents, and texts of answers without their quotes."""
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str) and "sentences" in value:
            yield without_quotes(text, value["sentences"])
        for name, inner in value.items():
            if name == "content" and isinstance(inner, str):
                yield inner
            else:
                yield from markdown_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from markdown_of(inner)


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
@in_module_loop
async def test_what_a_client_draws_as_markdown_has_no_active_content(
    service: RunningService, payload: str
) -> None:
    for number in (1, 2):
        await bring(service, hostile(f"{payload}-{number}", PAYLOADS[payload]))
    found = await bodies(service, payload)
    drawn = [text for body in found.values() for text in markdown_of(body)]
    assert len(drawn) > 6
    for text in drawn:
        assert hidden_content(text, allowed_urls=(URL,)) == [], text
    assert any(body.get("also") for body in (found["repeated"], found["chat"]["answer"]))


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
@in_module_loop
async def test_a_quote_is_what_is_stored_and_is_marked_as_a_quote(
    service: RunningService, payload: str
) -> None:
    """Also where a stranger wrote it: a client shows what is marked so as text."""
    await bring(service, hostile(f"stored-{payload}", PAYLOADS[payload]))
    found = await bodies(service, f"stored-{payload}", names=[f"stored-{payload}"])
    answer = found["repeated"]
    quotes = [answer["text"][one["start"] : one["end"]] for one in answer["sentences"] if one["quote"]]
    sources = next(data for name, data in found["streamed"] if name == "sources")
    shown = quotes if answer["mode"] == "quoted" else [sources["section"]["text"]]
    assert any(f"two days {PAYLOADS[payload]}" in text for text in shown)


@in_module_loop
async def test_an_address_cannot_break_out_of_the_link_that_a_client_makes_of_it(
    service: RunningService,
) -> None:
    await bring(service, hostile("address-1", "x"))
    await bring(service, hostile("address-2", "x"))
    found = await bodies(service, "address")
    urls = {text for body in found.values() for name, text in leaves(body) if name in ("url", "document_url")}
    assert any(url.startswith("https://docs.example/") for url in urls)
    for url in urls:
        drawn = MarkdownIt("commonmark", {"html": True}).render(f"[source]({url}) and <{url}>")
        assert drawn.count("<a ") == 2 - url.startswith("/")
        assert "<img" not in drawn
        assert not set(url) & set("()<>\"'`[]{}|\\^ ")
