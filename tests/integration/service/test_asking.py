"""Asking over real HTTP: the stream, the whole answer, what goes wrong before and after the first event."""

from __future__ import annotations

import asyncio
from pathlib import Path

from assistant.documents.page import Page, Paragraph, plain
from assistant.service.streams import StreamLimits
from tests.fakes.running_service import (
    RunningService,
    Scene,
    events_of,
    running_service,
)

STREAM = "text/event-stream"


async def test_the_record_keeps_the_variant_that_wrote(service: RunningService) -> None:
    answer_id = (await service.answered())["answer_id"]
    stored = await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers())
    assert stored.json()["record"]["variant"] == "AllTraffic"


async def test_the_whole_answer_holds_what_the_stream_holds(service: RunningService) -> None:
    whole = await service.answered()
    events = dict(events_of((await service.ask(accept=STREAM)).text))
    assert whole["text"] == "Wait two days."
    assert whole["finish_reason"] == events["done"]["finish_reason"]
    assert whole["citations"] == events["done"]["citations"]
    assert [source["document_id"] for source in whole["sources"]] == ["wait"]
    assert len(whole["sentences"]) == 1


async def test_a_sentence_is_sent_while_the_model_still_writes(service: RunningService) -> None:
    service.sagemaker.texts = ("The wait is two days. ", "It ", "is long.")
    service.sagemaker.stall_after = 2
    request = service.client.stream(
        "POST", "/v1/answers", json={"question": "How long?"}, headers=service.headers(accept=STREAM)
    )
    seen = ""
    async with request as response, asyncio.timeout(20):
        async for text in response.aiter_text():
            seen += text
            if "event: token" in seen:
                break
    assert [data["text"] for name, data in events_of(seen) if name == "token"] == ["The wait is two days."]


async def test_a_comment_comes_when_nothing_flows(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(limits=StreamLimits(heartbeat_s=0.05))) as service:
        await service.know("wait", "The wait is two days.")
        service.sagemaker.stall_after = 1
        request = service.client.stream(
            "POST", "/v1/answers", json={"question": "How long?"}, headers=service.headers(accept=STREAM)
        )
        seen = ""
        async with request as response, asyncio.timeout(20):
            async for text in response.aiter_text():
                seen += text
                if seen.count(": alive\n\n") >= 2:
                    break
        assert "event: done" not in seen


async def test_what_each_page_of_a_document_says_stands_beside_its_quote(service: RunningService) -> None:
    page = Page((Paragraph(plain("The wait is two days.")),), banner="SUPERSEDED since 1 March")
    await service.know("wait", page.to_bytes().decode(), media_type="application/vnd.page+json")
    await service.know("other", "The wait in Ohio is two days.")
    whole = await service.answered()
    banners = {source["document_id"]: source.get("banner") for source in whole["sources"]}
    assert banners == {"wait": "SUPERSEDED since 1 March", "other": None}


async def test_what_the_documents_do_not_say_is_never_sent(service: RunningService) -> None:
    service.sagemaker.texts = ("The wait is two days [1.1]. ", "The wait is 40 weeks [1.1]. ", "So call.")
    answered = await service.ask(accept=STREAM)
    assert "40 weeks" not in answered.text
    events = events_of(answered.text)
    text = "".join(data["text"] for name, data in events if name == "token")
    assert text == "The wait is two days. So call."
    [withheld] = [data for name, data in events if name == "sentence" and data["detail"] == "withheld"]
    assert (withheld["values"], withheld["start"]) == (["40 week"], withheld["end"])
    assert events[-1][1]["certainty"] == "possibly"


async def test_over_the_agent_s_share_is_429_before_any_model_call(service: RunningService) -> None:
    service.sagemaker.stall_after = 1
    asking = [asyncio.create_task(service.ask(accept=STREAM)) for _ in range(3)]
    await service.sagemaker.generation(3)
    refused = await service.ask("Which question is refused?")
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert all("refused" not in str(call.body) for call in service.sagemaker.embeddings)
    other = asyncio.create_task(service.ask(agent="bob", accept=STREAM))
    await service.sagemaker.generation(4)
    for task in (*asking, other):
        task.cancel()
    await asyncio.wait([*asking, other])
    service.sagemaker.stall_after = None
    await service.idle()
    assert (await service.ask()).status_code == 200


async def test_figures_count_answers_steps_and_streams(service: RunningService) -> None:
    await service.answered()
    text = (await service.operated("/metrics")).text
    assert 'assistant_answers_total{finish_reason="stop",tenant="clinic"} 1.0' in text
    assert 'assistant_active_streams{tenant="clinic"} 0.0' in text
    assert 'assistant_first_token_seconds_count{tenant="clinic"} 1.0' in text
    assert 'assistant_step_seconds_count{step="' in text
    assert "assistant_answer_fallbacks_total{" not in text
    service.sagemaker.generation_fault = "error"
    await service.answered()
    text = (await service.operated("/metrics")).text
    failed = 'fallback="generation_unavailable",tenant="clinic"'
    assert f"assistant_answer_fallbacks_total{{{failed}}} 1.0" in text
    await service.client.post("/v1/answers", content=b"", headers=service.headers())
    text = (await service.operated("/metrics")).text
    assert 'assistant_answers_refused_total{code="unreadable_request"} 1.0' in text
