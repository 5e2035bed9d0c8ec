"""The adapters with the vendors' own SDKs in Chromium; the host at the other end of each wire is ours."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Frame, FrameLocator, Page, expect

from tests.options.panel.conftest import PACKAGE, PanelScene, bundled

ZENDESK_SDK = (PACKAGE.parents[3] / "tests/options/panel/zendesk_sdk/zaf_sdk.js").resolve()
APP = """<!doctype html><meta charset="utf-8"><title>app</title><div id="place"></div>{before}
<script type="module">
import {{ {name} as open }} from "./{file}";
const place = document.getElementById("place");
const code = async () => (await fetch("assistant-code")).text();
const context = async (id) => {{ window.asked = [...(window.asked ?? []), id]; return CONTEXT; }};
window.panel = await {call};
</script>"""

WORKSPACE = """<!doctype html><meta charset="utf-8"><title>workspace</title>
<iframe name="app" src="APP" style="width: 420px; height: 700px"></iframe>
<script>
window.upstream = [];
addEventListener("message", ({ data, ports, source }) => {
  if (source !== frames.app || data.type !== "connect-app-host-init") return;
  window.port = ports[0];
  port.onmessage = ({ data }) => upstream.push(data);
  const status = { initialized: true };
  port.postMessage({ type: "acknowledge", connectionId: "c-1", status, healthCheckInterval: 0 });
});
window.stage = (stage, scope) => port.postMessage({
  type: "appLifecycle", stage, instanceId: "i-1", region: "us-east-1", launchedBy: { type: "unknown" }, scope,
  config: { id: "a", name: "Assistant", namespace: "assistant", arn: "a" },
});
window.tell = (topic, contactId) => {
  const { handlerId } = upstream.find((one) => one.type === "subscribe" && one.topic.key === topic);
  const whole = { namespace: "aws.connect.contact", key: topic };
  port.postMessage({ type: "publish", topic: whole, handlerId, data: { contactId } });
};
</script>"""

SUPPORT = """<!doctype html><meta charset="utf-8"><title>support</title>
<iframe name="app" src="APP" style="width: 420px; height: 700px"></iframe>
<script>
window.composer = ""; window.note = ""; window.kind = "publicReply"; window.subscribed = [];
window.ticket = 4711;
window.conversation = [];
const reply = (message) => frames.app.postMessage(JSON.stringify(message), "*");
const done = {
  get: () => ({ "ticket.id": ticket, "ticket.conversation": conversation, "ticket.comment.type": kind }),
  set: (values) => { kind = values["ticket.comment.type"]; return values; },
  invoke: (actions) => {
    for (const [name, [text]] of Object.entries(actions)) {
      if (name === "ticket.editor.insert") composer += text;
      else if (name === "ticket.comment.appendText") note += text;
    }
    return {};
  },
};
addEventListener("message", ({ data, source }) => {
  if (source !== frames.app || typeof data !== "string") return;
  const { id, request, params, key } = JSON.parse(data);
  if (key === "iframe.handshake") {
    const context = { product: "support", location: "ticket_sidebar" };
    return reply({ key: "zaf.app.registered", message: { metadata: {}, context } });
  }
  if (key?.startsWith("iframe.on:")) return subscribed.push(key.slice(10));
  if (request === "invoke" && "track" in params) return reply({ id, result: {} });
  if (request in done) reply({ id, result: done[request](params) });
});
window.changed = () => reply({ key: "zaf.ticket.conversation.changed", message: {} });
</script>"""


def app_of(page: Page) -> Frame:
    frame = page.frame("app")
    assert frame is not None
    return frame


def panel_of(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[name=app]").frame_locator("iframe[title=Assistant]")


@pytest.fixture
def connect(context: BrowserContext, scene: PanelScene) -> Page:
    """A workspace of Amazon Connect with the app."""
    scene.helpdesk.pages |= {
        "/connect.js": bundled(PACKAGE / "amazon_connect.ts"),
        "/assistant-code": scene.code(),
        "/connect.html": APP.format(
            name="openInAmazonConnect",
            file="connect.js",
            before="",
            call=f'open(place, "{scene.url}", {{ code, context }})',
        ).replace("CONTEXT", repr(scene.context())),
    }
    scene.top.pages["/workspace.html"] = WORKSPACE.replace("APP", scene.helpdesk.url("/connect.html"))
    page = context.new_page()
    page.goto(scene.top.url("/workspace.html"))
    page.wait_for_function("window.port !== undefined")
    return page


def test_connect_hands_over_the_contact_and_takes_nothing_back(connect: Page) -> None:
    connect.evaluate("stage('create', { type: 'contact', contactId: 'contact-1' })")
    panel = panel_of(connect)
    expect(panel.locator(".chat-bar")).to_have_text("contact-1")
    expect(panel.locator(".context-bar")).to_contain_text("Live data of C-1")
    panel.locator("#question").fill("When is a refill due?")
    panel.locator("#question").press("Enter")
    expect(panel.locator(".answer")).to_contain_text("25 days")
    panel.locator("#edit-reply").click()
    expect(panel.get_by_role("button", name="Copy", exact=True)).to_be_visible()
    for left in ("Insert", "Add as note"):
        expect(panel.get_by_role("button", name=left, exact=True)).to_have_count(0)
    connect.wait_for_function("upstream.some(({ type }) => type === 'appLifecycleHandlerCompleted')")
    connect.evaluate("stage('destroy')")
    expect(app_of(connect).locator("iframe")).to_have_count(0)


def test_connect_follows_the_agents_contacts_where_the_app_is_of_none(connect: Page) -> None:
    connect.evaluate("stage('create', { type: 'idle' })")
    panel = panel_of(connect)
    expect(panel.locator(".composer")).to_be_visible()
    expect(panel.locator(".chat-bar")).to_have_count(0)
    connect.wait_for_function("upstream.filter(({ type }) => type === 'subscribe').length >= 2")
    connect.evaluate("tell('contact/connected', 'contact-2')")
    expect(panel.locator(".chat-bar")).to_have_text("contact-2")
    connect.evaluate("tell('contact/cleared', 'contact-1')")
    connect.evaluate("tell('contact/connected', 'contact-3')")
    expect(panel.locator(".chat-bar")).to_have_text("contact-3")
    connect.evaluate("tell('contact/cleared', 'contact-3')")
    expect(panel.locator(".chat-bar")).to_have_count(0)
    assert app_of(connect).evaluate("asked") == ["contact-2", "contact-3"]


@pytest.fixture
def zendesk(context: BrowserContext, scene: PanelScene) -> Page:
    """A ticket of Zendesk Support with the app in its sidebar."""
    scene.helpdesk.pages |= {
        "/zaf_sdk.js": ZENDESK_SDK.read_text(encoding="utf-8"),
        "/zendesk.js": bundled(PACKAGE / "zendesk.ts"),
        "/assistant-code": scene.code(),
        "/zendesk.html": APP.format(
            name="openInZendesk",
            file="zendesk.js",
            before='<script src="zaf_sdk.js"></script>',
            call=f'open(ZAFClient.init(), place, "{scene.url}", {{ code, context }})',
        ).replace("CONTEXT", repr(scene.context())),
    }
    app = scene.helpdesk.url(f"/zendesk.html?origin={scene.top.origin}&app_guid=g-1")
    scene.top.pages["/support.html"] = SUPPORT.replace("APP", app)
    page = context.new_page()
    page.add_init_script(f"window.said = {SAID}")
    page.goto(scene.top.url("/support.html"))
    return page


SAID = """[
  { author: { role: "end-user" }, message: { contentType: "text/html", content:
    "<p>When is a <b>refill</b> due?</p><img src=x onerror='parent.harmed = true'>" },
    timestamp: "2026-11-20T08:00:00Z", channel: { name: "messaging" } },
  { author: { role: "agent" }, message: { contentType: "text/plain", content: "A secret note" },
    timestamp: "2026-11-20T08:01:00Z", channel: { name: "internal" } },
  { author: { role: "agent" }, message: null, timestamp: "2026-11-20T08:01:30Z" },
  { author: { role: "system" }, message: { contentType: "text/plain", content: "Ann joined" },
    timestamp: "2026-11-20T08:02:00Z", channel: { name: "messaging" } }
]"""


def test_zendesk_hands_over_the_ticket_and_takes_reply_and_note(zendesk: Page) -> None:
    panel = panel_of(zendesk)
    expect(panel.locator(".chat-bar")).to_have_text("4711")
    zendesk.wait_for_function("subscribed.includes('ticket.conversation.changed')")
    zendesk.evaluate("conversation = said; changed()")
    expect(panel.locator(".chat-bar")).to_contain_text("4711, 2 messages")
    with zendesk.expect_request("**/v1/answers") as asked:
        panel.get_by_role("button", name="Answer the customer").click()
    assert (asked.value.post_data_json or {})["turns"] == [
        {"who": "customer", "text": "When is a refill due?", "at": "2026-11-20T08:00:00Z"},
        {"who": "system", "text": "Ann joined", "at": "2026-11-20T08:02:00Z"},
    ]
    expect(panel.locator(".answer")).to_contain_text("25 days")
    panel.get_by_role("button", name="Add as note").click()
    expect(panel.get_by_role("button", name="Note added")).to_be_visible()
    assert zendesk.evaluate("[kind, note]") == [
        "internalNote",
        "A refill is due after 25 days. Ask for it in the app.",
    ]
    panel.locator("#edit-reply").click()
    panel.locator("#reply").fill("A refill is due after 25 days.")
    panel.get_by_role("button", name="Insert", exact=True).click()
    expect(panel.get_by_role("button", name="Inserted: send it there")).to_be_visible()
    assert zendesk.evaluate("[kind, composer]") == ["publicReply", "A refill is due after 25 days."]
    assert [frame.evaluate("window.harmed") for frame in zendesk.frames] == [None] * 3


def test_markup_in_a_reply_stays_text_in_zendesk_s_editor(zendesk: Page) -> None:
    panel = ask_the_panel(zendesk)
    panel.locator("#edit-reply").click()
    panel.locator("#reply").fill('A refill is due after <b>25</b> days.\nAsk "us" & wait.')
    panel.get_by_role("button", name="Insert", exact=True).click()
    expect(panel.get_by_role("button", name="Inserted: send it there")).to_be_visible()
    written = "A refill is due after &#60;b&#62;25&#60;/b&#62; days.<br>Ask &#34;us&#34; &#38; wait."
    assert zendesk.evaluate("composer") == written


def test_no_note_is_written_where_zendesk_keeps_the_reply_public(zendesk: Page) -> None:
    panel = ask_the_panel(zendesk)
    zendesk.evaluate("() => { done.set = (values) => values; }")
    panel.get_by_role("button", name="Add as note").click()
    expect(panel.get_by_role("button", name="The page did not take it: copy it")).to_be_visible()
    assert zendesk.evaluate("[kind, note]") == ["publicReply", ""]


def ask_the_panel(zendesk: Page) -> FrameLocator:
    panel = panel_of(zendesk)
    zendesk.wait_for_function("subscribed.includes('ticket.conversation.changed')")
    zendesk.evaluate("conversation = said; changed()")
    panel.get_by_role("button", name="Answer the customer").click()
    expect(panel.locator(".answer")).to_contain_text("25 days")
    return panel
