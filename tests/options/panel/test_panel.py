"""The panel in a helpdesk's page: sign-in by code and by pop-up, the chat, the reply back, nothing kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, FrameLocator, Page, Request, Route, expect

from tests.options.panel.conftest import NOTHING_KEPT, PanelScene, panel_of


def test_a_code_signs_in_and_the_reply_goes_into_the_composer(
    helpdesk: Callable[..., Page], scene: PanelScene
) -> None:
    page = helpdesk(scene.code())
    panel = panel_of(page)
    expect(panel.locator(".chat-bar")).to_contain_text("4711, 1 message")
    panel.get_by_role("button", name="Answer the customer").click()
    expect(panel.locator(".answer")).to_contain_text("25 days")
    panel.locator("#edit-reply").click()
    panel.locator("#reply").fill("A refill is due after 25 days.")
    panel.get_by_role("button", name="Insert", exact=True).click()
    expect(page.locator("#composer")).to_have_value("A refill is due after 25 days.")
    expect(panel.get_by_role("button", name="Inserted: send it there")).to_be_visible()
    frame = page.frames[1]
    assert frame.evaluate(NOTHING_KEPT) == 0
    assert page.evaluate(NOTHING_KEPT) == 0


def test_the_pop_up_signs_in_and_nothing_is_kept(
    helpdesk: Callable[..., Page], context: BrowserContext, scene: PanelScene
) -> None:
    page = helpdesk()
    panel = panel_of(page)
    with context.expect_page() as opened:
        panel.get_by_role("button", name="Sign in").click()
    pop_up = opened.value
    pop_up.get_by_label("Tenant").select_option("clinic")
    pop_up.get_by_label("Agent name").fill("ann")
    with pop_up.expect_event("close"):
        pop_up.get_by_role("button", name="Sign in").click()
    expect(panel.locator(".chat-bar")).to_contain_text("4711")
    panel.get_by_role("button", name="Answer the customer").click()
    expect(panel.locator(".answer")).to_contain_text("25 days")
    assert page.frames[1].evaluate(NOTHING_KEPT) == 0


def test_source_and_note_go_to_the_page(
    helpdesk: Callable[..., Page], context: BrowserContext, scene: PanelScene
) -> None:
    page = helpdesk(scene.code())
    panel = panel_of(page)
    panel.get_by_role("button", name="Answer the customer").click()
    panel.get_by_role("button", name="Add as note").click()
    expect(page.locator("#note")).to_have_value("A refill is due after 25 days. Ask for it in the app.")
    panel.locator(".citation").first.click()
    with context.expect_page() as opened:
        panel.get_by_role("button", name="Open beside").click()
    expect(opened.value.locator("body")).to_contain_text("A refill is due after 25 days")
    assert opened.value.url.startswith(scene.url)


def test_findings_are_shown_before_a_reply_goes_to_the_page(
    helpdesk: Callable[..., Page], scene: PanelScene
) -> None:
    page = helpdesk(scene.code())
    panel = panel_of(page)
    panel.get_by_role("button", name="Answer the customer").click()
    panel.locator("#edit-reply").click()
    wrong = "A refill is due after 90 days."
    panel.locator("#reply").fill(wrong)
    panel.get_by_role("button", name="Insert", exact=True).click()
    expect(panel.locator("#reply-faults")).to_contain_text("90 days")
    expect(page.locator("#composer")).to_have_value("")
    panel.get_by_role("button", name="I checked: use it").click()
    panel.get_by_role("button", name="Insert", exact=True).click()
    expect(page.locator("#composer")).to_have_value(wrong)


OWN_PAGE = """<!doctype html><meta charset="utf-8"><title>desk</title><div id="place"></div>
<script type="module">
import { Panel } from "./panel.js";
window.told = [];
window.panel = new Panel(document.getElementById("place"), "ADDRESS", {
  insert: (text) => {
    if (window.insert === undefined) throw new Error("the composer is closed");
    window.insert(text);
  },
  code: async () => window.code ?? null,
  context: async (ticket) => {
    window.told.push(`context of ${ticket}`);
    return window.contexts?.shift() ?? null;
  },
  signedIn: () => window.told.push("signed in"),
  refused: (why) => window.told.push(`refused: ${why}`),
});
</script>"""


@pytest.fixture
def own(context: BrowserContext, scene: PanelScene) -> Callable[[], Page]:
    """Open a page with a panel that the test drives."""

    def opened() -> Page:
        scene.helpdesk.pages["/own.html"] = OWN_PAGE.replace("ADDRESS", scene.url)
        page = context.new_page()
        page.add_init_script(f"window.code = {scene.code()!r}")
        page.goto(scene.helpdesk.url("/own.html"))
        page.wait_for_function("window.told?.includes('signed in')")
        return page

    return opened


def is_question(sent: Request) -> bool:
    return sent.url.endswith("/v1/answers") and sent.method == "POST"


def hand(page: Page, ticket: str, *texts: str, context: str | None = None) -> None:
    turns = [{"who": "customer", "text": text} for text in texts]
    given = {"ticket": ticket, "turns": turns} | ({} if context is None else {"context": context})
    page.evaluate("given => panel.hand(given)", given)


def test_another_ticket_begins_anew_and_the_same_one_goes_on(
    own: Callable[[], Page], scene: PanelScene
) -> None:
    page = own()
    panel = panel_of(page)
    hand(page, "T-1", "When is a refill due?")
    panel.get_by_role("button", name="Answer the customer").click()
    expect(panel.locator(".answer")).to_contain_text("25 days")
    hand(page, "T-1", "When is a refill due?", "Thanks")
    expect(panel.locator(".chat-bar")).to_contain_text("T-1, 2 messages")
    expect(panel.locator(".answer")).to_contain_text("25 days")
    hand(page, "T-2")
    expect(panel.locator(".chat-bar")).to_contain_text("T-2")
    expect(panel.locator(".answer")).to_have_count(0)
    expect(panel.get_by_role("button", name="Answer the customer")).to_have_count(0)
    page.evaluate("panel.leave()")
    expect(panel.locator(".chat-bar")).to_have_count(0)


def write_reply(page: Page, panel: FrameLocator) -> None:
    """Write a reply in T-1; the page keeps what is inserted in ``panel.taken``."""
    page.evaluate("() => { panel.taken = []; window.insert = (text) => panel.taken.push(text); }")
    hand(page, "T-1", "When is a refill due?")
    panel.get_by_role("button", name="Answer the customer").click()
    panel.locator("#edit-reply").click()
    panel.locator("#reply").fill("A refill is due after 25 days.")


def test_a_reply_of_one_conversation_never_goes_into_the_composer_of_another(
    own: Callable[[], Page], scene: PanelScene
) -> None:
    """The page changes to another ticket while the reply is checked, or while it is on the way."""
    page = own()
    panel = panel_of(page)
    write_reply(page, panel)
    panel.get_by_role("button", name="Insert", exact=True).click()
    page.wait_for_function("panel.taken.length === 1")

    def change_and_go_on(route: Route) -> None:
        hand(page, "T-2", "Where is my order?")
        expect(panel.locator(".chat-bar")).to_contain_text("T-2")
        route.continue_()

    panel.locator("#reply").fill("A refill is due after 25 days, as told.")
    page.route("**/reply/check", change_and_go_on, times=1)
    with page.expect_response("**/reply/check"):
        panel.get_by_role("button", name="Insert", exact=True).click()
    for frame in (page.frames[1], page.main_frame):  # what follows the response has gone through both
        frame.evaluate("() => new Promise((resolve) => setTimeout(resolve))")
    expect(panel.locator(".chat-bar")).to_contain_text("T-2")
    assert page.evaluate("panel.taken.length") == 1


def test_the_package_refuses_what_was_made_in_another_conversation(
    own: Callable[[], Page], scene: PanelScene
) -> None:
    page = own()
    panel = panel_of(page)
    write_reply(page, panel)
    # the page is in T-2, and the panel does not know yet
    page.evaluate(
        "() => { window.sent = []; MessagePort.prototype.postMessage = (data) => sent.push(data); }"
    )
    hand(page, "T-2")
    panel.get_by_role("button", name="Insert", exact=True).click()
    page.wait_for_function("sent.some((one) => one.type === 'result' && !one.ok)")
    assert page.evaluate("panel.taken") == []


def test_another_customer_of_the_same_ticket_begins_anew(own: Callable[[], Page], scene: PanelScene) -> None:
    page = own()
    panel = panel_of(page)
    hand(page, "T-1", "When is a refill due?", context=scene.context())
    panel.get_by_role("button", name="Answer the customer").click()
    expect(panel.locator(".answer")).to_contain_text("25 days")
    hand(page, "T-1", "When is a refill due?", context=scene.context())
    expect(panel.locator(".answer")).to_contain_text("25 days")
    hand(page, "T-1", "When is a refill due?", context=scene.context(customer="C-2"))
    expect(panel.locator(".context-bar")).to_contain_text("Live data of C-2")
    expect(panel.locator(".answer")).to_have_count(0)


def test_the_context_goes_with_the_question_and_another_is_asked_for(
    own: Callable[[], Page], scene: PanelScene
) -> None:
    page = own()
    panel = panel_of(page)
    bodies: list[Any] = []
    page.on("request", lambda sent: bodies.append(sent.post_data_json) if is_question(sent) else None)
    first, *others = (scene.context() for _ in range(3))
    hand(page, "T-1", "When is a refill due?", context=first)
    page.evaluate("tokens => { window.contexts = tokens }", others)
    for _ in range(2):
        panel.get_by_role("button", name="Answer the customer").click()
        expect(panel.get_by_role("button", name="Ask", exact=True)).to_be_visible()
        page.wait_for_function("window.told.includes('context of T-1')")
        expect(panel.locator(".context-bar")).to_contain_text("Live data of C-1, until")
    assert [body["context"] for body in bodies] == [first, others[0]]
    assert [body["question"] for body in bodies] == ["", ""]


NIGHT_VIEWS = ((360, "light"), (480, "dark"))


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(360, "dark"), (480, "light"), *(pytest.param(*view, marks=pytest.mark.night) for view in NIGHT_VIEWS)],
)
def test_the_panel_has_no_violation_of_accessibility_rules(
    own: Callable[[], Page], scene: PanelScene, axe_source: str, width: int, scheme: str
) -> None:
    page = own()
    page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    style = f"iframe {{ width: {width}px; height: 700px; border: 0 }}"
    page.add_style_tag(content=style)
    panel, frame = panel_of(page), page.frames[1]
    hand(page, "A-VERY-LONG-TICKET-NAME-" + "x" * 60, "When is a refill due?", context=scene.context())

    def check() -> None:
        assert frame.evaluate("document.documentElement.clientWidth") == width
        assert frame.evaluate(axe_source + RUN_AXE) == []
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not frame.evaluate(wide)

    check()
    panel.get_by_role("button", name="Answer the customer").click()
    expect(panel.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    check()
    panel.locator("#edit-reply").click()
    panel.locator("#reply").fill("A refill is due after 90 days.")
    panel.get_by_role("button", name="Insert", exact=True).click()
    expect(panel.locator("#reply-faults")).to_be_visible()
    check()
    panel.locator(".citation").first.click()
    expect(panel.locator(".stored-text")).to_be_visible()
    check()
    panel.get_by_role("button", name="Close").click()
    page.evaluate("window.code = undefined")
    page.route("**/v1/answers", lambda route: route.fulfill(status=401, body="{}"), times=1)
    panel.locator("#question").fill("And then?")
    panel.locator("#question").press("Enter")
    expect(panel.locator(".panel-sign-in")).to_be_visible()
    check()


RUN_AXE = """;
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.flatMap(
  ({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target}: ${failureSummary}`)))"""


LINE = "A refill is due after 25 days."
SUGGESTION = {
    "suggestion_id": "s1",
    "document_id": "refill",
    "title": "Refills",
    "heading": "When",
    "lines": [LINE],
    "document_url": "/d",
    "step": 17,
}
FLAG = {"name": "chest_pain", "text": "Possible heart attack. Dial 911 now.", "call": "911"}


@pytest.mark.parametrize("is_emergency", [True, False])
def test_what_the_chat_gives_is_shown_unasked(
    helpdesk: Callable[..., Page],
    context: BrowserContext,
    scene: PanelScene,
    axe_source: str,
    is_emergency: bool,
) -> None:
    asked: list[Any] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        flags, suggestion = ([FLAG], None) if is_emergency else ([], SUGGESTION)
        route.fulfill(json={"red_flags": flags, "suggestion": suggestion})

    context.route("**/v1/turns**", answer)
    page = helpdesk(scene.code())
    panel = panel_of(page)
    if is_emergency:
        expect(panel.get_by_role("alert")).to_contain_text("Call: 911")
        return
    bar = panel.get_by_role("region", name="Suggestion")
    expect(bar).to_contain_text(LINE)
    [[turn]] = [one["turns"] for one in asked]
    assert turn["who"] == "customer"
    frame = page.frames[1]
    frame.evaluate(axe_source)
    assert frame.evaluate("axe.run(document).then(({ violations }) => violations.map(({ id }) => id))") == []
    bar.get_by_role("button", name="Open as an answer").click()
    bar.get_by_role("button", name="Insert these lines").click()
    expect(bar).to_have_count(0)
    expect(panel.locator("#reply")).to_have_value(LINE)
    assert [(one["kind"], one["step"]) for one in asked[1:]] == [("opened", 17), ("inserted", 17)]
    assert frame.evaluate(NOTHING_KEPT) == 0
