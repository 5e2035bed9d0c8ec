"""Active content in each place of a document, and each field of each way to get an answer.

A document's author is not trusted: a title, a heading or a row may be an image that tells
a stranger who asked.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from markdown_it import MarkdownIt

from assistant.domain.documents import Document
from tests.attacks.active_content import hidden_content
from tests.attacks.scene import Mode, Said, ask_each_way, attacked_service, bring
from tests.stage.running_service import RunningService, events_of

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


async def asked(service: RunningService, *names: str) -> list[Said]:
    """Ask whole, streamed and as a chat, and read the record; ``test_attacks`` asks by tools too."""
    said = await ask_each_way(service, QUESTION, filters={"document_id": list(names)})
    return [*said[:4], *said[6:]]


def texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, text) of all texts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner, name)
    elif isinstance(value, str):
        yield name, value


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
@in_module_loop
async def test_what_a_client_draws_as_markdown_has_no_active_content(
    service: RunningService, payload: str
) -> None:
    names = [f"{payload}-1", f"{payload}-2"]
    for name in names:
        await bring(service, hostile(name, PAYLOADS[payload]))
    said = await asked(service, *names)
    drawn = [text for each in said for text in each.markdown]
    assert len(drawn) >= len(said)
    for text in drawn:
        assert hidden_content(text, allowed_urls=(URL,)) == [], text
    assert any('"also":[{' in each.body for each in said)


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
@in_module_loop
async def test_a_quote_is_what_is_stored_and_is_marked_as_a_quote(
    service: RunningService, payload: str
) -> None:
    """Also where a stranger wrote it: a client shows what is marked so as text."""
    await bring(service, hostile(f"stored-{payload}", PAYLOADS[payload]))
    whole, streamed, *_ = await asked(service, f"stored-{payload}")
    answer = orjson.loads(whole.body)
    quotes = [answer["text"][one["start"] : one["end"]] for one in answer["sentences"] if one["quote"]]
    sources = next(data for name, data in events_of(streamed.body) if name == "sources")
    shown = quotes if answer["mode"] == "quoted" else [sources["section"]["text"]]
    assert any(f"two days {PAYLOADS[payload]}" in text for text in shown)


@in_module_loop
async def test_an_address_cannot_break_out_of_the_link_that_a_client_makes_of_it(
    service: RunningService,
) -> None:
    await bring(service, hostile("address-1", "x"))
    await bring(service, hostile("address-2", "x"))
    whole, streamed, *_ = await asked(service, "address-1", "address-2")
    said = [orjson.loads(whole.body), events_of(streamed.body)]
    urls = {text for name, text in texts(said) if name in ("url", "document_url")}
    assert any(url.startswith("https://docs.example/") for url in urls)
    for url in urls:
        drawn = MarkdownIt("commonmark", {"html": True}).render(f"[source]({url}) and <{url}>")
        assert drawn.count("<a ") == 2 - url.startswith("/")
        assert "<img" not in drawn
        assert not set(url) & set("()<>\"'`[]{}|\\^ ")
