"""The page on which a knowledge owner lists and withdraws documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.console_page import ConsolePage
from tests.browser.product import Product

LEAFLETS = 60
"""More than one page of the list holds."""


@pytest.fixture(scope="module")
def leaflets(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """Documents of the clinic."""
    folder = tmp_path_factory.mktemp("leaflets")
    lines = [
        json.dumps(
            {"id": f"leaflet-{n:02}", "question": f"What is leaflet {n}?", "answer": f"It is number {n}."}
        )
        for n in range(LEAFLETS)
    ]
    (folder / "leaflets.jsonl").write_text("\n".join(lines), encoding="utf-8")
    product.assistant("knowledge", "add", "--tenant", "clinic", str(folder / "leaflets.jsonl"))
    return product


@pytest.fixture
def owner(leaflets: Product, console: ConsolePage) -> ConsolePage:
    """A knowledge owner of the clinic at the list of documents."""
    console.sign_in(tenant="clinic", agent="noor", roles=("knowledge_owner",))
    expect(console.page.locator(".documents")).to_be_visible()
    return console


def test_the_list_has_pages(owner: ConsolePage) -> None:
    rows = owner.page.locator(".documents tbody tr")
    first = rows.first.inner_text()
    expect(rows).to_have_count(50)
    owner.button("Next").click()
    expect(owner.page.locator(".pager")).to_contain_text("Page 2")
    expect(rows.first).not_to_have_text(first)
    owner.button("Back").click()
    expect(owner.page.locator(".pager")).to_contain_text("Page 1")


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
