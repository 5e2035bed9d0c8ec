"""Documents over HTTP: read by token and by link, listed, brought and withdrawn."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.documents.formats import convert
from assistant.documents.parsing.render import render
from assistant.domain.documents import ORIGINAL_PART_BYTES, Document, DocumentState, Span
from assistant.domain.identity import Identity, Role
from tests.integration.service.callers import calling
from tests.stage.running_service import RunningService
from tests.stage.tenant_stores import stored_bodies

ANN = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset())
PAGE = "application/vnd.page+json"
DATA = Path(__file__).parents[2] / "data"
NEW = {"document_id": "new", "title": "New", "content": "# New\n\nText.", "media_type": "text/markdown"}


def link(service: RunningService, document_id: str = "wait", **more: Any) -> str:
    span = more.pop("span", Span(4, 8))
    return service.tenants["clinic"].links.link(document_id, span=span, identity=ANN, **more)


async def follow(service: RunningService, document_url: str) -> httpx.Response:
    """Open a link as its page does."""
    _, _, token = document_url.partition("#")
    return await service.client.post("/v1/documents/linked", json={"token": token})


def owner(service: RunningService) -> dict[str, str]:
    return service.headers("olga", roles=["knowledge_owner"])


async def reads(service: RunningService, tenant: str = "clinic") -> list[tuple[str, str]]:
    """Return (agent, subject) of all recorded reads, from the file itself."""
    file = service.state_dir / "tenants" / tenant / "records.sqlite"
    bodies = stored_bodies(file, partition="access#????-??-??")
    return [(body["agent"], body["subject_id"]) for body in bodies if body["kind"] == "document"]


async def test_the_text_is_read_with_a_bearer_token_and_the_read_is_recorded(service: RunningService) -> None:
    response = await service.call("GET", "/v1/documents/wait")
    assert response.status_code == 200
    body = response.json()
    assert body["text"] == "The wait is two days."
    assert body["sections"] == [{"headings": [], "start": 0, "end": 21}]
    assert (body["span"], body["is_cited_version"]) == (None, True)
    assert await reads(service) == [("ann", "wait")]


async def test_a_link_to_a_replaced_content_says_so(service: RunningService) -> None:
    response = await follow(service, link(service, content_hash="0" * 64))
    assert (response.json()["span"], response.json()["is_cited_version"]) == (None, False)


async def test_nothing_in_an_address_opens_a_document(service: RunningService) -> None:
    """An address is kept by the logs of balancers: with all of one nobody reads anything."""
    sent, _, token = link(service).partition("#")
    page = await service.client.get(sent)
    assert (page.status_code, "The wait is two days." in page.text) == (200, False)
    for address in (f"/v1/documents/wait?token={token}", f"/v1/documents/linked?token={token}"):
        for method in ("GET", "POST"):
            assert (await service.client.request(method, address)).status_code in (400, 401, 405, 422)


async def test_the_page_of_links_runs_its_own_script_and_nothing_else(service: RunningService) -> None:
    page = await service.client.get("/open")
    script = re.search(r"<script>(.*)</script>", page.text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_a_forged_link_is_401(service: RunningService) -> None:
    for token in ("x", "clinic.x.y", "nobody.x.y", "pharmacy.x.y"):
        response = await follow(service, f"/open#{token}")
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated"), token


async def test_with_a_bearer_token_hash_and_span_mark_the_passage(service: RunningService) -> None:
    document = await service.know("wait", "The wait is two days.")

    async def cited(**query: Any) -> Any:
        response = await service.call("GET", "/v1/documents/wait", params=query)
        return response.json()

    content_hash = document.content_hash()
    body = await cited(content_hash=content_hash, start=4, end=8)
    assert (body["span"], body["is_cited_version"]) == ([4, 8], True)
    other = await cited(content_hash="0" * 64, start=4, end=8)
    assert (other["span"], other["is_cited_version"]) == (None, False)
    assert (await cited(content_hash=content_hash, start=4, end=800))["span"] is None
    assert (await cited(content_hash=content_hash, start=4))["code"] == "invalid_request"


async def test_the_original_is_plain_text_that_runs_nothing(service: RunningService) -> None:
    await service.know("page", "<script>alert(1)</script>")
    response = await service.call("GET", "/v1/documents/page?format=original")
    assert response.text == "<script>alert(1)</script>"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert await reads(service) == [("ann", "page")]


@pytest.mark.parametrize("form", ["text", "original"])
async def test_a_label_of_the_document_must_be_in_the_token(service: RunningService, form: str) -> None:
    await service.know("salaries", "Secret.", labels=("hr", "board"))
    path = f"/v1/documents/salaries?format={form}"
    allowed = await service.call("GET", path, labels=["hr"])
    assert allowed.status_code == 200
    refused = await service.call("GET", path, labels=["desk"])
    never = await service.call("GET", "/v1/documents/never")
    assert (refused.status_code, refused.content) == (404, never.content)
    assert await reads(service) == [("ann", "salaries")]


async def test_links_of_a_text_open_web_pages_and_documents_that_the_reader_may_see(
    service: RunningService,
) -> None:
    content = "[a](wait.md#how) [b](salaries/) [c](none.md) [d](https://d.example) [e](mailto:e@e.example)"
    await service.know("new", content, media_type="text/markdown")
    await service.know("salaries", "Secret.", labels=("hr",))
    for labels, opened in (((), ["wait"]), (("hr",), ["wait", "salaries"])):
        response = await service.call("GET", "/v1/documents/new", labels=labels)
        links = response.json()["links"]
        assert [each["document_id"] for each in links if each["document_id"]] == opened
        assert links[-1] == {"start": 6, "end": 7, "document_id": None, "url": "https://d.example"}
    await service.client.delete("/v1/documents/wait", headers=owner(service))
    response = await service.call("GET", "/v1/documents/new")
    assert [each["url"] for each in response.json()["links"]] == ["https://d.example"]


async def test_a_link_keeps_the_labels_it_was_made_with(service: RunningService) -> None:
    await service.know("salaries", "Secret.", labels=("hr",))
    assert (await follow(service, link(service, "salaries"))).status_code == 404


async def test_the_list_says_which_edition_is_in_force(service: RunningService) -> None:
    await service.know("fees-v1", "A locker costs 4 dollars.")
    await service.know("fees-v2", "A locker costs 6 dollars.")
    listed = (await service.client.get("/v1/documents", headers=owner(service))).json()["documents"]
    assert {each["document_id"]: each.get("in_force_note") for each in listed} == {
        "fees-v1": "Not in force: an older edition. In force: Title of fees-v2.",
        "fees-v2": None,
        "wait": None,
    }


async def test_bringing_a_document_is_taken_and_shows_in_status_and_list(service: RunningService) -> None:
    taken = await service.client.post("/v1/documents", json=NEW, headers=owner(service))
    assert (taken.status_code, taken.json()["state"]) == (202, "received")
    status = await service.client.get("/v1/documents/new/status", headers=owner(service))
    assert status.json() == taken.json()
    page = (await service.client.get("/v1/documents?state=received", headers=owner(service))).json()
    assert [document["document_id"] for document in page["documents"]] == ["new"]
    assert page["counts"] == {"received": 1, "live": 1}
    assert await service.tenants["clinic"].knowledge.queue.depth() == 1


async def test_a_document_larger_than_a_question_may_be_is_taken(service: RunningService) -> None:
    large = NEW | {"content": "word " * 100_000}
    response = await service.client.post("/v1/documents", json=large, headers=owner(service))
    assert response.status_code == 202


async def test_a_cited_page_opens_the_original_there(service: RunningService) -> None:
    raw = (DATA / "tariff.pdf").read_bytes() + bytes(ORIGINAL_PART_BYTES)  # more than one part
    page = convert("tariff.pdf", raw)
    number, start = render(page).parsed.pages[-1]
    document = await service.know(
        "tariff",
        page.to_bytes().decode(),
        media_type=PAGE,
        labels=("hr",),
        original=('Tarif \u00e9"\r\nx: y.pdf', raw),
    )
    span, content_hash = Span(start + 20, start + 30), document.content_hash()
    clerk = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset({"hr"}))
    link = service.tenants["clinic"].links.link(
        "tariff", span=span, identity=clerk, content_hash=content_hash
    )
    original = (await follow(service, link)).json()["original"]
    assert (original["page"], original["media_type"]) == (number, "application/pdf")
    body = {"token": link.partition("#")[2], "format": "original"}
    sent = await service.client.post("/v1/documents/linked", json=body)
    assert (sent.content == raw, sent.headers["content-type"]) == (True, "application/pdf")
    name = "inline; filename*=UTF-8''Tarif%20%C3%A9%22%0D%0Ax%3A%20y.pdf"
    assert sent.headers["content-disposition"] == name
    query = {"format": "original", "content_hash": content_hash}
    with_label = service.headers("bea", labels=["hr"])
    read = await service.client.get("/v1/documents/tariff", params=query, headers=with_label)
    assert read.content == raw
    hidden = await service.call("GET", "/v1/documents/tariff", params=query, agent="cy")
    assert hidden.status_code == 404
    assert await reads(service) == [("ann", "tariff"), ("ann", "tariff"), ("bea", "tariff")]


async def test_a_table_is_sent_with_its_cells_and_its_file_as_an_attachment(service: RunningService) -> None:
    raw = b"Plan,Fee\nBasic,$5\nPlus,$9\n"
    page = convert("fees.csv", raw).to_bytes().decode()
    await service.know("fees", page, media_type=PAGE, original=("fees.csv", raw))
    body = (await service.call("GET", "/v1/documents/fees")).json()
    (table,) = body["tables"]
    cells = [[body["text"][start:end] for start, end in row] for row in table["rows"]]
    assert (table["header"], cells) == (["Plan", "Fee"], [["Basic", "$5"], ["Plus", "$9"]])
    query = {"format": "original"}
    sent = await service.call("GET", "/v1/documents/fees", params=query)
    assert (sent.content, sent.headers["content-type"]) == (raw, "application/octet-stream")
    assert sent.headers["content-disposition"].startswith("attachment; ")


async def test_a_document_that_is_sent_cannot_claim_an_original(service: RunningService) -> None:
    claim = {"name": "a.pdf", "sha256": "a" * 64, "size_bytes": 1}
    sent = await service.client.post("/v1/documents", json=NEW | {"original": claim}, headers=owner(service))
    assert sent.status_code == 202
    query = {"format": "original"}
    read = await service.call("GET", "/v1/documents/new", params=query)
    assert read.text == NEW["content"]


async def test_the_typed_client_brings_reads_and_withdraws_documents(service: RunningService) -> None:
    async with calling(service, roles=["knowledge_owner"]) as owner:
        status = await owner.bring_document(Document.model_validate(NEW))
        assert status.state is DocumentState.RECEIVED
        assert await owner.document_status("new") == status
        page = await owner.list_documents(state=[DocumentState.LIVE], limit=1)
        assert [document.document_id for document in page.documents] == ["wait"]
        assert (await owner.withdraw_document("new")).state is DocumentState.WITHDRAWN
        (source,) = (await owner.list_sources()).sources
        assert source.access == "everyone"
        assert (await owner.read_document_again("wait")).upload_id is None
        assert (await owner.upload_results(["0" * 32])).uploads == ()
        withheld = await owner.withhold_document("wait", reason="It is wrong.")
        assert withheld.state is DocumentState.WITHHELD
