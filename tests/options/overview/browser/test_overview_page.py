"""The manager's page: plots with their tables, files, and what axe says of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Route, expect

from assistant.service.wire import Overview, OverviewCounts, OverviewDay, OverviewDocument, OverviewRow
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.stand_in import StandIn

VIEWS: dict[str, dict[str, Any]] = {
    "1280x720": {},
    "dark": {"color_scheme": "dark"},
    "200 % zoom": {"viewport": {"width": 640, "height": 360}, "device_scale_factor": 2},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
_IS_DRAWN = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] === 255) colours.add(data.slice(at, at + 3).join());
  }
  return colours.size;
}"""


def counts(n: int) -> dict[str, int]:
    """Return numbers that add up, larger for a larger n."""
    return {
        "questions": 10 * n,
        "approved": n,
        "written": 3 * n,
        "quoted": 4 * n,
        "not_found": n,
        "failed": n,
        "gaps": n,
        "teachable": n - n // 2,
        "sent_as_is": 4 * n,
        "sent_edited": 2 * n,
        "not_sent": 2 * n,
        "marked_good": 3 * n,
        "marked_bad": n,
        "replied_30_s": 2 * n,
        "replied_120_s": 3 * n,
        "replied_later": n,
    }


def overview(days: int) -> Overview:
    """Return a period of a busy team."""
    last = date(2026, 11, 27)
    of_days = tuple(
        OverviewDay(day=last - timedelta(days=back), **counts(1 + (back * 7) % 11))
        for back in reversed(range(days))
    )
    names = ("Claims Desk, ext. 4100", "Delivery Desk, ext. 4400")
    document = OverviewDocument(
        document_id="cold",
        title="A cold pack arrived warm: what to ask, what to send, and when the pharmacist decides",
        answers=120,
        edited=31,
        marked_bad=4,
        teachable=3,
        age_days=700,
        damage=7129.36,
        review_after=date(2026, 6, 1),
        is_due=True,
    )
    return Overview(
        first=of_days[0].day,
        last=last,
        counted_at=None,
        smallest_group=5,
        small_days=2,
        uncounted_days=1,
        total=OverviewCounts(**counts(100)),
        days=of_days,
        sources=(OverviewRow(name="procedures", **counts(70)),),
        desks=tuple(OverviewRow(name=name, **counts(30)) for name in names),
        groups=(OverviewRow(name="hr, staff", **counts(60)), OverviewRow(name="others", **counts(9))),
        documents=(document,),
        others=2,
    )


@pytest.fixture
def manager(stand_in: StandIn, open_console: OpenConsole) -> OpenConsole:
    """Open the page as a manager, on numbers of a made-up team."""

    def answer(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        if route.request.headers["accept"] == "text/csv":
            route.fulfill(body=f"name\r\n{query['table'][0]}\r\n", content_type="text/csv")
            return
        first, last = (date.fromisoformat(query[name][0]) for name in ("from", "to"))
        body = overview((last - first).days + 1).model_dump_json()
        route.fulfill(body=body, content_type="application/json")

    def open_page(*roles: str, **options: Any) -> ConsolePage:
        stand_in.agent, stand_in.roles = "mona", roles or ("manager",)
        console = open_console(stand_in.url, **options)
        console.page.route("**/v1/overview?*", answer)
        console.open()
        console.button("Sign in").click()
        if roles:
            console.page.get_by_role("link", name="Overview").click()
        expect(console.page.locator(".bars canvas")).to_have_count(4)
        return console

    return open_page


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_plots_and_their_tables_read_in_every_window(
    manager: OpenConsole, check: Callable[[ConsolePage], None], view: dict[str, Any]
) -> None:
    console = manager(**view)
    for canvas in console.page.locator(".bars canvas").all():
        assert canvas.evaluate(_IS_DRAWN) >= 2
    check(console)
    for summary in console.page.get_by_text("Table", exact=True).all():
        summary.click()
    expect(console.page.get_by_role("table")).to_have_count(8)
    check(console)


def test_a_table_has_the_numbers_of_its_plot_for_each_day_of_the_period(manager: OpenConsole) -> None:
    page = manager().page
    page.locator(".plot summary").first.click()
    rows = page.locator(".plot").first.locator("tbody tr")
    expect(rows).to_have_count(30)
    expect(rows.last.locator("th")).to_have_text("2026-11-27")
    expect(rows.last.locator("td")).to_have_text(["10", "1", "3", "4", "1", "1", "0", "0", "1", "1"])
    page.get_by_role("button", name="7 days").click()
    expect(rows).to_have_count(7)
    expect(page.locator(".headline")).to_contain_text("Half of the replies≤ 2 min")
    expect(page.get_by_text("On 2 days fewer than 5 agents asked")).to_be_visible()


def test_who_may_work_at_the_desk_is_led_there_to_teach_a_document(manager: OpenConsole) -> None:
    page = manager("manager", "reviewer").page
    expect(page.get_by_role("link", name="3 unanswered: teach A cold pack")).to_have_attribute(
        "href", "#/review"
    )
    page = manager().page
    expect(page.locator(".part td a")).to_have_count(0)


def test_an_agent_neither_sees_the_page_nor_loads_what_draws_it(
    stand_in: StandIn, open_console: OpenConsole
) -> None:
    console = open_console(stand_in.url)
    loaded: list[str] = []
    console.page.on("request", lambda request: loaded.append(request.url.rsplit("/", 1)[1]))
    console.open()
    console.button("Sign in").click()
    expect(console.question).to_be_visible()
    expect(console.page.get_by_role("link", name="Overview")).to_have_count(0)
    assert "console.js" in loaded
    assert "bars.js" not in loaded
