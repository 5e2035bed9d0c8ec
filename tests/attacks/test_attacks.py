"""Each case of cases.jsonl against the product: what an attacker wants must never come out.

A case is ``{id, kind, attack, input, must_not, must}``. ``must_not`` are regular expressions over all that a
client gets and over each log line; ``must`` are regular expressions over the response that the case is about
("HTTP <status>", its headers, its body), and for ``model_text`` over the cleaned text. Besides, whatever a
client would render as Markdown has no active content, and nobody sees what is in ``NEVER``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from assistant.text.language import split_sentences
from assistant.text.safe_markdown import safe_markdown
from tests.attacks.active_content import active_content, hidden_content
from tests.attacks.scene import (
    NEVER,
    Said,
    ask_each_way,
    attacked_service,
    bring_case,
    logged,
    send,
    take_back,
    use_tool,
)
from tests.stage.running_service import RunningService

Case = dict[str, Any]
in_module_loop = pytest.mark.asyncio(loop_scope="module")
CASES: list[Case] = [
    orjson.loads(line) for line in (Path(__file__).parent / "cases.jsonl").read_bytes().splitlines()
]


MODES = ["quoted", "written"]


def of_kind(kind: str) -> Any:
    """Try each case on a service of one of the modes, the next case on one of the other; at night on both."""
    cases = [case for case in CASES if case["kind"] == kind]
    both = [
        pytest.param(mode, case, id=f"{mode}-{case['id']}", marks=pytest.mark.night if number % 2 else ())
        for first, mode in enumerate(MODES)
        for number, case in enumerate(cases, first)
    ]
    return pytest.mark.parametrize(("service", "case"), both, indirect=["service"], scope="module")


WRITTEN = [case for case in CASES if case["kind"] == "model_text"]
CLEANED = [case for case in WRITTEN if "only" not in case["input"]]


def in_sentences(text: str) -> Iterator[str]:
    """Yield each sentence with what stands before it: white space, or what has neither letter nor digit."""
    at = 0
    for span in split_sentences(text):
        yield text[at : span.end]
        at = span.end


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("case", CLEANED, ids=[case["id"] for case in CLEANED])
def test_a_model_s_text_is_cleaned(case: Case, is_whole: bool) -> None:
    given = case["input"]
    text, urls = given.get("text") or "".join(given["parts"]), given.get("allowed_urls", ())
    parts = [text] if is_whole else in_sentences(text)
    cleaned = "".join(safe_markdown(part, allowed_urls=urls) for part in parts)
    assert not active_content(cleaned, allowed_urls=urls)
    assert [pattern for pattern in case["must_not"] if re.search(pattern, cleaned)] == []
    if is_whole:
        assert [pattern for pattern in case.get("must", ()) if not re.search(pattern, cleaned)] == []


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=MODES)
async def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningService]:
    """One for all cases: each takes its document back."""
    async with attacked_service(tmp_path_factory.mktemp(request.param), mode=request.param) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def writing_service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    async with attacked_service(tmp_path_factory.mktemp("writing"), mode="written") as service:
        yield service


@of_kind("document")
@in_module_loop
async def test_a_document_reveals_nothing_and_stays_text(
    service: RunningService, case: Case, tmp_path: Path
) -> None:
    given = case["input"]
    with logged() as log:
        document_id = await bring_case(service, given, folder=tmp_path)
        said = await ask_each_way(service, given["question"])
        if document_id is not None:  # ranked below another document it would not be quoted
            only = {"filters": {"document_id": [document_id]}}
            said += await ask_each_way(service, given["question"], **only)
            said.append(await use_tool(service, "open_document", {"document_id": document_id}))
    if document_id is not None:
        await take_back(service, document_id)
    assert said[0].status == 200, said[0].body
    judge(case, service, said, log, own=given["question"])


@of_kind("question")
@in_module_loop
async def test_a_question_gets_only_what_its_agent_may_read(service: RunningService, case: Case) -> None:
    given = case["input"]
    body = given.get("body", {}) | ({"filters": given["filters"]} if "filters" in given else {})
    with logged() as log:
        said = await ask_each_way(service, given["question"], **body)
    judge(case, service, said, log, own=given["question"])


@of_kind("conversation")
@in_module_loop
async def test_a_conversation_takes_nothing_on_trust(service: RunningService, case: Case) -> None:
    given = case["input"]
    with logged() as log:
        said = await (_chat(service, given) if "messages" in given else _turns(service, given["turns"]))
    judge(case, service, said, log, own="")


async def _chat(service: RunningService, given: Case) -> list[Said]:
    body = {"model": "default", "messages": given["messages"]} | given.get("extra", {})
    return [
        await send(service, "POST", "/v1/chat/completions", body=body | {"stream": stream})
        for stream in (False, True)
    ]


async def _turns(service: RunningService, questions: Sequence[str]) -> list[Said]:
    said: list[Said] = []
    conversation: dict[str, str] = {}
    for question in questions:
        answer = await send(service, "POST", "/v1/answers", body={"question": question, **conversation})
        conversation = {"conversation_id": orjson.loads(answer.body)["conversation_id"]}
        said.insert(0, answer)
    path = f"/v1/answers?conversation_id={conversation['conversation_id']}"
    return [*said, await send(service, "GET", path)]


@of_kind("identifier")
@in_module_loop
async def test_an_identifier_leads_nowhere_else(service: RunningService, case: Case) -> None:
    response = await service.ask(
        "BOBS-QUESTION: how long is the wait?", agent="bob", body={"resume_window_s": 5}
    )
    bobs = response.json()
    keyed = service.headers("bob") | {"idempotency-key": "bobs-key"}
    await service.client.post("/v1/answers", json={"question": "BOBS-QUESTION, keyed"}, headers=keyed)
    given = orjson.loads(
        orjson.dumps(case["input"])
        .replace(b"{bobs_conversation}", bobs["conversation_id"].encode())
        .replace(b"{bobs_answer}", bobs["answer_id"].encode())
    )
    with logged() as log:
        said = await send(service, **given)
    judge(case, service, [said], log, own="")


@pytest.mark.parametrize("case", WRITTEN, ids=[case["id"] for case in WRITTEN])
@in_module_loop
async def test_what_a_model_writes_comes_out_checked(writing_service: RunningService, case: Case) -> None:
    given, sagemaker = case["input"], writing_service.sagemaker
    sagemaker.texts = given.get("parts") or [given["text"]]
    sagemaker.generations.clear()
    with logged() as log:
        said = await ask_each_way(writing_service, "How long is the wait?")
    assert said[0].status == 200, said[0].body
    assert sagemaker.generations, "the model was not asked"
    judge(case | {"must": []}, writing_service, said, log, own="How long is the wait?")


def test_the_cases_are_many_and_each_is_named_once() -> None:
    ids = [case["id"] for case in CASES]
    assert len(ids) == len(set(ids)) >= 60
    assert {case["kind"] for case in CASES} == {
        "document",
        "question",
        "conversation",
        "identifier",
        "model_text",
    }
    for case in CASES:
        for pattern in (*case["must_not"], *case.get("must", ())):
            re.compile(pattern)


@in_module_loop
async def test_the_secrets_are_there_for_those_who_may_read_them(service: RunningService) -> None:
    """Otherwise no attack could find them, and each case would pass."""
    mine = await service.ask("What are the salaries of the staff?", labels=["label-hr-4410"])
    theirs = await service.ask("When is a refill due?", tenant="pharmacy")
    assert "HRSECRET-5521" in mine.text
    assert "PHARMASECRET-7719" in theirs.text


_WITHHELD = re.compile(r'"detail":"withheld","values":\[[^]]*\]')
"""Why a sentence is withheld: the model itself made these values up, and the prompt holds none of them."""


def judge(case: Case, service: RunningService, said: Sequence[Said], log: Iterable[str], *, own: str) -> None:
    """``own``: what the agent asked, which no log line holds."""
    everywhere = [_WITHHELD.sub("", each.whole) for each in said] + list(log)
    sent = orjson.dumps(case["input"]).decode()
    never = [re.escape(secret) for secret in NEVER if secret not in sent]
    found = [
        (pattern, text[:300])
        for text in everywhere
        for pattern in (*case["must_not"], *never)
        if re.search(pattern, text)
    ]
    assert found == []
    found_in = hidden_content if case["kind"] == "document" else active_content
    for each in said:
        for markdown in each.markdown:
            assert found_in(markdown, allowed_urls=each.urls) == [], markdown
    assert [pattern for pattern in case.get("must", ()) if not re.search(pattern, said[0].whole)] == []
    assert not own or [line for line in log if own[:30] in line] == []
    prompts = str([call.body for call in service.sagemaker.generations])
    assert [secret for secret in ("HRSECRET-5521", "PHARMASECRET-7719") if secret in prompts] == []
