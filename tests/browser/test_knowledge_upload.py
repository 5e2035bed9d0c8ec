"""A knowledge owner drops what their company has into the page: files and folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from openpyxl import Workbook
from playwright.sync_api import Locator, expect

from tests.browser.conftest import AT_NIGHT
from tests.browser.console_page import ConsolePage
from tests.browser.product import Product

MANY = 500 if AT_NIGHT else 80
LIVE_MS = 60_000
BUSY_SHARE = 0.10
"""Of the time in which files are sent and read, spent in tasks that keep the page from answering (50 ms)."""
_TARIFF = Path(__file__).parents[1] / "data" / "tariff.pdf"
_WATCH = """() => {
  window.busy = 0; window.begun = performance.now();
  new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.busy += entry.duration; })
    .observe({ type: "longtask", buffered: false });
}"""


@pytest.fixture
def owner(product: Product, console: ConsolePage) -> ConsolePage:
    """A knowledge owner of the clinic at the list of documents."""
    del product
    console.sign_in(tenant="clinic", agent="noor", roles=("agent", "knowledge_owner"))
    console.page.get_by_role("link", name="Knowledge").click()
    expect(console.page.get_by_role("heading", name="Add documents")).to_be_visible()
    return console


def drop(owner: ConsolePage, path: Path) -> None:
    """Drop a file or folder from the desktop."""
    devtools = owner.page.context.new_cdp_session(owner.page)
    box = owner.page.locator(".drop-zone").bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + 9, "y": box["y"] + 9}
        devtools.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def row(owner: ConsolePage, document_id: str) -> Locator:
    return owner.page.get_by_role("row").filter(has_text=document_id)


def counts(owner: ConsolePage) -> Locator:
    return owner.page.locator(".upload-counts")


def test_a_dropped_folder_is_answered_from_and_its_refusals_are_told(
    owner: ConsolePage, tmp_path: Path, check: Callable[[ConsolePage], None]
) -> None:
    folder = tmp_path / "handbook"
    write(
        folder / "desk" / "umbrellas.md",
        "---\nowner: Front desk\nreview_after: 2026-02-01\n---\n# Lending umbrellas\n\n"
        "An umbrella is lent for nine days against a deposit of 4 euros.\n",
    )
    shutil.copy(_TARIFF, folder / "desk")
    book = Workbook()
    for line in (("Service", "Price"), ("Renting a locker", "2 euros a day"), ("Parking a bicycle", "free")):
        book.worksheets[0].append(line)
    book.worksheets[0].row_dimensions[3].hidden = True
    book.save(folder / "desk" / "fees.xlsx")
    write(folder / "desk" / "~$fees.xlsx", "of who has it open")
    write(folder / "photos.zip", "PK")
    write(folder / "torn.pdf", "%PDF-1.7")
    write(folder / ".DS_Store", "-")
    drop(owner, folder)
    expect(counts(owner)).to_have_text("3 read, 1 refused", timeout=LIVE_MS)
    expect(owner.page.locator(".upload-list li.refused")).to_contain_text("torn.pdf")
    for left_out in ("1 hidden", "1 .zip", "1 ~$ of a file that is open in Office"):
        expect(owner.page.locator(".left-out")).to_contain_text(left_out)
    for document_id in ("desk-umbrellas", "desk-tariff.pdf", "desk-fees.xlsx"):
        expect(row(owner, document_id)).to_contain_text("live", timeout=LIVE_MS)
    check(owner)
    lost = owner.page.locator(".upload-list li.done").filter(
        has_text="1 hidden row was left out: sheet Sheet, row 3."
    )
    lost.get_by_role("button", name="Show").click()
    expect(owner.page.get_by_role("dialog").locator("mark.passage")).to_have_text("Sheet")
    check(owner)
    owner.button("Close").click()
    owner.page.get_by_role("link", name="Answers").click()
    owner.ask_to_the_end("For how long is an umbrella lent?")
    expect(owner.answer).to_contain_text("nine days against a deposit of 4 euros")
    expect(owner.page.get_by_role("heading", name="Lending umbrellas").first).to_be_visible()


def test_many_files_say_that_they_load_and_leave_the_page_responsive(
    owner: ConsolePage, tmp_path: Path
) -> None:
    folder, page = tmp_path / "many", owner.page
    for n in range(MANY):
        write(folder / f"notice-{n:03}.md", f"# Notice {n}\n\nNotice number {n} is about shelf {n * 7}.\n")
    page.get_by_label("into").select_option("staff")
    page.get_by_label("below").select_option("")
    page.evaluate(_WATCH)
    drop(owner, folder)
    expect(page.locator(".knowledge .loading")).to_contain_text("documents of staff", timeout=LIVE_MS)
    page.get_by_role("link", name="Answers").click()
    owner.ask_to_the_end("Which shelf is notice number 7 about?")
    expect(page.locator(".above")).to_contain_text("documents of staff")
    page.get_by_role("link", name="Knowledge").click()
    expect(counts(owner)).to_have_text(f"{MANY} read, 0 refused", timeout=400_000)
    assert page.evaluate("window.busy / (performance.now() - window.begun)") <= BUSY_SHARE
    page.get_by_label("Find").fill(f"NOTICE {MANY - 1}")
    expect(page.locator(".documents tbody tr")).to_have_count(1)
    expect(row(owner, f"staff:notice-{MANY - 1:03}")).to_contain_text("for every agent")


def test_files_of_a_source_by_folder_have_the_labels_of_the_chosen_folder(
    owner: ConsolePage, product: Product, tmp_path: Path, check: Callable[[ConsolePage], None]
) -> None:
    folder = tmp_path / "intranet"
    write(folder / "holidays" / "leave.md", "# Leave\n\nLeave is paid for 14 weeks.\n")
    owner.page.get_by_label("into").select_option("staff")
    expect(owner.button("Choose a folder")).to_be_disabled()
    drop(owner, folder)
    expect(owner.page.get_by_role("alert")).to_contain_text("Choose the folder first")
    expect(counts(owner)).to_have_count(0)
    check(owner)
    owner.page.get_by_label("below").select_option("pay")
    drop(owner, folder)
    expect(counts(owner)).to_have_text("1 read, 0 refused", timeout=LIVE_MS)
    as_hr = ("--tenant", "clinic", "--agent", "noor", "--role", "knowledge_owner", "--label", "hr")
    token = product.assistant("tenant", "token", *as_hr).strip()
    address = f"{product.url}/v1/documents/staff:pay-holidays-leave/status"
    status = httpx.get(address, headers={"authorization": f"Bearer {token}"}).json()
    assert status["labels"] == ["hr"], status
