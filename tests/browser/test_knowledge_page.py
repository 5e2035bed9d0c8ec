"""The page on which a knowledge owner lists and withdraws documents."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.browser.console_page import ConsolePage
from tests.browser.product import Product

LEAFLETS = 60
"""More than one page of the list holds."""


@pytest.fixture(scope="module")
def leaflets(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """A folder of documents for the clinic; one has no text."""
    folder = tmp_path_factory.mktemp("leaflets")
    lines = [
        json.dumps(
            {"id": f"leaflet-{n:02}", "question": f"What is leaflet {n}?", "answer": f"It is number {n}."}
        )
        for n in range(LEAFLETS)
    ]
    (folder / "leaflets.jsonl").write_text("\n".join(lines), encoding="utf-8")
    product.assistant("knowledge", "add", "--tenant", "clinic", str(folder / "leaflets.jsonl"))
    _bring_empty_page(product)
    return product


def _bring_empty_page(product: Product) -> None:
    """Add a document without text and one with an unknown label, and wait until the first has failed."""
    token = product.assistant(
        "tenant", "token", "--tenant", "clinic", "--agent", "noor", "--role", "knowledge_owner"
    )
    document = {"document_id": "empty-page", "title": "An empty page", "content": "<p></p>"}
    with httpx.Client(base_url=product.url, headers={"authorization": f"Bearer {token.strip()}"}) as client:
        brought = client.post("/v1/documents", json={**document, "media_type": "text/html"})
        assert brought.status_code == 202
        wrong = {"document_id": "leaflet-59", "title": "T", "content": "C", "media_type": "text/plain"}
        refused = client.post("/v1/documents", json={**wrong, "labels": ["HR"]})
        assert refused.status_code == 422
        until = time.monotonic() + 30
        while client.get("/v1/documents/empty-page/status").json()["state"] != "failed":
            assert time.monotonic() < until, "the empty page did not fail"
            time.sleep(0.2)


@pytest.fixture
def owner(leaflets: Product, console: ConsolePage) -> ConsolePage:
    """A knowledge owner of the clinic at the list of documents."""
    console.sign_in(tenant="clinic", agent="noor", roles=("knowledge_owner",))
    expect(console.page.locator(".documents")).to_be_visible()
    return console


def test_a_document_shows_state_age_and_original(product: Product, console: ConsolePage) -> None:
    console.sign_in(roles=("agent", "knowledge_owner"))
    console.page.get_by_role("link", name="Knowledge").click()
    row = console.page.get_by_role("row").filter(
        has_text="Reject 79: refill too soon, including dose changes"
    )
    expect(row.get_by_role("cell").nth(0)).to_have_text("live")
    expect(row).to_contain_text("19 Jan 2026")
    expect(row).to_contain_text("Received today")
    expect(row).to_contain_text("Claims Desk")
    served = re.compile(r"^http://127\.0\.0\.1:\d+/procedures/refill-too-soon-standard$")
    expect(row.get_by_role("link")).to_have_attribute("href", served)


def test_the_list_has_pages(owner: ConsolePage) -> None:
    rows = owner.page.locator(".documents tbody tr")
    first = rows.first.inner_text()
    expect(rows).to_have_count(50)
    owner.button("Next").click()
    expect(owner.page.locator(".pager")).to_contain_text("Page 2")
    expect(rows.first).not_to_have_text(first)
    owner.button("Back").click()
    expect(owner.page.locator(".pager")).to_contain_text("Page 1")


def test_a_version_is_restored_while_the_document_is_read_again(owner: ConsolePage) -> None:
    page, held = owner.page, list[Route]()
    rows = page.locator(".documents tbody tr")
    expect(rows).to_have_count(50)
    document_id = rows.first.locator(".document-id").inner_text()
    facts = {"state": "embedded", "title": "Pay", "labels": [], "received_at": "2026-11-25T09:00:00Z"}
    version = {"title": "Pay", "characters": 9, "labels": [], "stored_at": "2026-11-25T09:00:00Z"}
    contents = [version | {"content_hash": hash, "is_newest": hash == "b"} for hash in ("b", "a")]
    details = {"status": facts, "answers": [], "has_more_answers": False, "contents": contents}
    is_held, restored = [False], list[Any]()

    def look(route: Route) -> None:
        if is_held[0]:
            held.append(route)
        else:
            route.fulfill(json=details)

    def restore(route: Route) -> None:
        restored.append(route.request.post_data_json)
        route.fulfill(json={})

    page.route(f"**/v1/documents/{document_id}/details", look)
    page.route(f"**/v1/documents/{document_id}/restore", restore)
    rows.first.get_by_role("button", name="Details").click()
    button = page.get_by_role("button", name="Restore the version")
    expect(button).to_be_visible()
    is_held[0] = True
    owner.wait_until(lambda: len(held) == 1)
    button.click()
    owner.wait_until(lambda: len(restored) == 1)
    assert restored == [{"content_hash": "a"}]


def test_a_withdrawal_needs_a_confirmation(owner: ConsolePage) -> None:
    page = owner.page
    row = page.get_by_role("row").filter(has_text="leaflet-07")
    row.get_by_role("button", name="Withdraw").click()
    owner.button("Keep it").click()
    expect(row).to_contain_text("live")
    row.get_by_role("button", name="Withdraw").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    expect(page.locator(".receipt caption")).to_contain_text("All that can be removed is removed")
    owner.button("Close").click()
    expect(row).to_contain_text("withdrawn")
    page.get_by_label("State").select_option("withdrawn")
    expect(page.locator(".documents tbody tr").filter(has_not_text="withdrawn")).to_have_count(0)
    expect(row).to_have_count(1)


def test_a_second_person_reads_what_waits_and_releases_that(owner: ConsolePage) -> None:
    page, asked, held = owner.page, list[Any](), list[Route]()
    none = ("origin", "url", "owner", "effective_date", "live_content_hash")
    waits = {
        **dict.fromkeys(none),
        "document_id": "pay",
        "title": "Pay",
        "state": "withheld",
        "content_hash": "b" * 64,
        "knowledge_source": "handbook",
        "source": "",
        "type": "",
        "labels": [],
        "passage_count": 0,
        **dict.fromkeys(("received_at", "updated_at"), "2026-11-25T09:00:00Z"),
        "failure_code": "release_needed",
        "failure_reason": "It waits.",
        "brought_by": "olga",
    }
    before = {"title": "Pay", "content": "Paid on day five.", "labels": ["hr"], "url": None, "source": ""}
    content = before | {"content": "Paid on day six.", "labels": []}
    both = {"document": content | {"questions": []}, "answered": before | {"questions": []}}
    listed = {"documents": [waits], "next_after": None, "counts": {"withheld": 1}, "loading": []}
    changed = {"type": "about:blank", "title": "Changed", "status": 409, "code": "contents_changed"}
    problem = changed | {"detail": "pay has another content now.", "retryable": False}

    def release(route: Route) -> None:
        asked.append(route.request.post_data_json)
        is_first = len(asked) == 1
        kind = "application/problem+json" if is_first else "application/json"
        body = json.dumps(problem if is_first else {})
        route.fulfill(status=409 if is_first else 200, content_type=kind, body=body)

    page.route("**/v1/documents?*", lambda route: route.fulfill(json=listed))
    shown = {"content_hash": "c" * 64, "brought_by": "olga"} | both
    page.route("**/v1/documents/pay/waiting", lambda route: held.append(route))
    page.route("**/v1/documents/release", release)
    owner.button("Refresh").click()
    page.get_by_role("row").filter(has_text="olga added it").get_by_role("button", name="Release").click()
    dialog = page.get_by_role("dialog")
    owner.wait_until(lambda: len(held) == 1)
    expect(owner.button("Release what is shown")).to_be_disabled()
    held.pop().fulfill(json=shown)
    expect(dialog).to_contain_text("readable for every agent, and was for hr")
    expect(dialog.locator("del")).to_contain_text("five.")
    expect(dialog.locator("ins")).to_contain_text("six.")
    owner.button("Release what is shown").click()
    expect(dialog).to_contain_text("pay has another content now.")
    owner.button("Release what is shown").click()
    expect(dialog).to_have_count(0)
    owner.button("Read and release all of handbook").click()
    expect(page.get_by_role("dialog").locator("summary")).to_contain_text("added by olga")
    assert asked == [{"knowledge_source": "handbook", "contents": {"pay": "c" * 64}}] * 2
