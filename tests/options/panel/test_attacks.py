"""Attacks by postMessage on the panel, in real Chromium with real origins. After each, the page's next honest
message still counts, and nothing of the attack was taken."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Frame, Page, expect

from tests.options.panel.conftest import PanelScene, Site

FRAME = (
    '<!doctype html><meta charset="utf-8"><title>host</title><iframe name="panel" src="{address}"></iframe>'
)
HOST = """<!doctype html><meta charset="utf-8"><title>host</title>
<iframe name="panel" title="Assistant" src="{address}/panel"></iframe>
<script>
window.got = [];
window.last = 0;
addEventListener("message", ({{ source, data }}) => {{
  if (source === frames.panel) got.push(data);
}});
window.hello = (data = {{ v: 1, type: "hello", can: ["insert"] }}) => {{
  const {{ port1, port2 }} = new MessageChannel();
  port1.onmessage = ({{ data }}) => got.push(data);
  frames.panel.postMessage(data, "*", [port2]);
  return port1;
}};
window.say = (data, id) => port.postMessage({{ v: 1, id: id ?? (last += 1), ...data }});
window.told = (type) => got.filter((one) => one.type === type);
</script>"""
RECORD = """
if (location.pathname === "/panel") {
  window.seen = [];
  const note = () => {
    for (const one of document.querySelectorAll(".chat-bar strong, .answer")) seen.push(one.textContent);
  };
  document.addEventListener("DOMContentLoaded", () =>
    new MutationObserver(note).observe(document, { subtree: true, childList: true, characterData: true }));
}
"""
"""What the panel has shown of a chat or an answer, at any time."""
TURN = '{ who: "customer", text: "ATTACK" }'
ATTACK = f'{{ v: 1, id: 50, type: "conversation", ticket: "ATTACK", turns: [{TURN}] }}'

LOOKS, LOOK_MS = 200, 50


def panel_frame(page: Page) -> Frame:
    frame = page.frame("panel")
    assert frame is not None
    return frame


@pytest.fixture
def host(context: BrowserContext, scene: PanelScene) -> Callable[[], Page]:
    """Open an honest page whose panel waits for its ``hello``."""
    context.add_init_script(RECORD)

    def opened() -> Page:
        scene.helpdesk.pages["/host.html"] = HOST.format(address=scene.url)
        page = context.new_page()
        page.goto(scene.helpdesk.url("/host.html"))
        page.wait_for_function("told('ready').length === 1")
        return page

    return opened


@pytest.fixture
def joined(host: Callable[[], Page], scene: PanelScene) -> Callable[[], Page]:
    """Open an honest page, greeted and signed in."""

    def opened() -> Page:
        page = host()
        greet(page, scene)
        return page

    return opened


def greet(page: Page, scene: PanelScene) -> None:
    page.evaluate("window.port = hello()")
    page.wait_for_function("told('sign_in').length === 1")
    page.evaluate("code => say({ type: 'code', code })", scene.code())
    page.wait_for_function("told('signed_in').length === 1")


def is_whole(page: Page, *, of: int = 1_000_000) -> None:
    """The page's honest chat is shown, and nothing of an attack ever was."""
    page.evaluate("id => say({ type: 'conversation', ticket: 'HONEST', turns: [] }, id)", of)
    panel = panel_frame(page)
    expect(panel.locator(".chat-bar strong")).to_have_text("HONEST")
    assert [text for text in panel.evaluate("seen") if "ATTACK" in text] == []


def refused(page: Page, *why: str) -> None:
    page.wait_for_function(f"told('refused').length === {len(why)}")
    assert page.evaluate("told('refused').map(({ why }) => why)") == [*why]


def conversation(**fields: str) -> str:
    known = {"v": "1", "id": "50", "type": '"conversation"', "ticket": '"ATTACK"', "turns": f"[{TURN}]"}
    given = {name: value for name, value in (known | fields).items() if value}
    return "{" + ", ".join(f"[{name!r}]: {value}" for name, value in given.items()) + "}"


MALFORMED = {
    "of type __proto__": conversation(type='"__proto__"'),
    "with an array of a hundred million holes": conversation(turns="Array(1e8)"),
    "with 50 million characters": '{ v: 1, id: 50, type: "code", code: "A".repeat(5e7) }',
    "that is a list with the fields": f"Object.assign([], {ATTACK})",
    "that is a map": f"new Map(Object.entries({ATTACK}))",
    "that is a blob": f"new Blob([JSON.stringify({ATTACK})])",
    "that is an error": f'Object.assign(new Error("ATTACK"), {ATTACK})',
    "that holds itself": f"(() => {{ const all = {ATTACK}; all.turns = [all]; return all; }})()",
}
"""What a port carries in a form of its own. All ways to break the schema: ``view/tests/protocol.test.ts``."""


def test_messages_that_break_the_schema_are_not_taken(joined: Callable[[], Page]) -> None:
    """Fewer on one page than close its port."""
    page = joined()
    for count, name in enumerate(MALFORMED, 1):
        page.evaluate(f"port.postMessage({MALFORMED[name]})")
        page.wait_for_function(f"told('refused').length === {count}")
        assert page.evaluate("told('refused').at(-1).why") == "schema", name
    is_whole(page)


def test_a_message_that_brings_a_port_is_not_taken(joined: Callable[[], Page]) -> None:
    page = joined()
    page.evaluate(f"port.postMessage({ATTACK}, [new MessageChannel().port2])")
    refused(page, "schema")
    is_whole(page)


def test_a_message_that_was_said_before_is_not_taken_again(joined: Callable[[], Page]) -> None:
    page = joined()
    page.evaluate("say({ type: 'conversation', ticket: 'FIRST', turns: [] }, 50)")
    for number in (50, 49, 1):
        page.evaluate("id => say({ type: 'conversation', ticket: 'ATTACK', turns: [] }, id)", number)
    refused(page, "replay", "replay", "replay")
    is_whole(page)


def test_a_code_that_was_used_is_not_taken_again(host: Callable[[], Page], scene: PanelScene) -> None:
    page, code = host(), scene.code()
    page.evaluate("window.port = hello()")
    for _ in range(2):
        page.evaluate("code => say({ type: 'code', code })", code)
        page.wait_for_function("told('signed_in').length === 1")
    refused(page, "code")
    is_whole(page)


WRONG_CODES: tuple[tuple[Callable[[PanelScene], str], str], ...] = (
    (lambda scene: scene.code("ann", "pharmacy"), "agent"),
    (lambda scene: scene.code("bob", "clinic"), "agent"),
    (lambda scene: scene.token("bob"), "code"),
)
"""Each with why it is refused. What the service refuses is in ``test_codes``."""


def test_a_code_is_not_taken(joined: Callable[[], Page], scene: PanelScene) -> None:
    page, whys = joined(), list[str]()
    for code, why in WRONG_CODES:
        page.evaluate("code => say({ type: 'code', code })", code(scene))
        whys.append(why)
        refused(page, *whys)
    is_whole(page)
    panel_frame(page).locator("#question").fill("When is a refill due?")
    with page.expect_request("**/v1/answers") as asked:
        panel_frame(page).locator("#question").press("Enter")
    claims = asked.value.headers["authorization"].split(".")[1]
    assert page.evaluate("text => JSON.parse(atob(text)).sub + JSON.parse(atob(text)).tenant", claims) == (
        "annclinic"
    )


def test_after_twenty_messages_that_were_not_taken_the_port_is_closed(joined: Callable[[], Page]) -> None:
    page = joined()
    page.evaluate("for (let n = 0; n < 25; n += 1) port.postMessage({ ATTACK: n })")
    page.wait_for_function("told('refused').length === 20")
    page.evaluate(f"port.postMessage({ATTACK})")
    page.evaluate("say({ type: 'conversation', ticket: 'LATER', turns: [] }, 90)")
    panel = panel_frame(page)
    panel.locator("#question").fill("When is a refill due?")
    panel.locator("#question").press("Enter")
    expect(panel.locator(".answer")).to_contain_text("25 days")
    assert [text for text in panel.evaluate("seen") if "ATTACK" in text or "LATER" in text] == []
    assert page.evaluate("told('refused').length") == 20
    expect(panel.get_by_role("alert")).to_contain_text("no longer listens to the page around it")


def test_half_of_a_surrogate_pair_in_a_chat_does_not_stop_its_reading(joined: Callable[[], Page]) -> None:
    page = joined()
    panel = panel_frame(page)
    with panel.page.expect_response(lambda response: response.url.endswith("/v1/turns")) as read:
        page.evaluate(
            """say({ type: 'conversation', ticket: 'HALF',
            turns: [{ who: "customer", text: "When is a refill due? \\ud83d" }] }, 60)"""
        )
    assert read.value.status == 200, read.value.text()


def test_a_page_out_of_the_back_forward_cache_begins_anew(joined: Callable[[], Page]) -> None:
    page = joined()
    page.evaluate("say({ type: 'conversation', ticket: 'BEFORE', turns: [] }, 60)")
    panel = panel_frame(page)
    expect(panel.locator(".chat-bar strong")).to_have_text("BEFORE")
    panel.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    page.wait_for_function("told('ready').length === 2")
    expect(panel_frame(page).locator(".chat-bar")).to_have_count(0)


HELLO = '{ v: 1, type: "hello", can: [] }'
WRONG_HELLOS = (
    f'frames.panel.postMessage({HELLO}, "*")',
    f'frames.panel.postMessage({HELLO}, "*", [new MessageChannel().port1, new MessageChannel().port1])',
    'hello({ v: 2, type: "hello", can: [] })',
    'hello({ v: 1, type: "hello", can: ["eval"] })',
    'hello({ v: 1, type: "hello", can: [], origin: "https://listed.example" })',
    f"hello({ATTACK})",
)


def test_a_hello_is_not_taken(host: Callable[[], Page], scene: PanelScene) -> None:
    page = host()
    for wrong in WRONG_HELLOS:
        page.evaluate(f"() => {{ {wrong} }}")
    assert page.evaluate("told('sign_in').length") == 0
    greet(page, scene)
    assert page.evaluate("told('sign_in').length") == 1
    is_whole(page)


def test_a_second_hello_is_not_taken(joined: Callable[[], Page]) -> None:
    page = joined()
    page.evaluate("window.other = hello()")
    page.evaluate(f"other.postMessage({ATTACK})")
    page.evaluate(f'frames.panel.postMessage({ATTACK}, "*")')
    is_whole(page)
    assert page.evaluate("told('sign_in').length") == 1


SAY_HELLO = """target => {
  const { port1, port2 } = new MessageChannel();
  window.answers = 0;
  port1.onmessage = () => { answers += 1; };
  target().postMessage({ v: 1, type: "hello", can: ["insert"] }, "*", [port2]);
  port1.postMessage({ v: 1, id: 1, type: "conversation", ticket: "ATTACK", turns: [] });
}"""


@pytest.mark.parametrize("when", ["before the page's hello", "after it"])
def test_another_window_cannot_greet_the_panel(
    host: Callable[[], Page], context: BrowserContext, scene: PanelScene, when: str
) -> None:
    """Each attacker was opened by the page, so it reaches ``opener.frames[0]``."""
    page, attackers = host(), list[Page]()
    if when == "after it":
        greet(page, scene)
    for site in (scene.evil, scene.top, scene.helpdesk):
        site.pages["/attack.html"] = "<!doctype html><title>attack</title>"
        with context.expect_page() as opened:
            page.evaluate("url => void window.open(url)", site.url("/attack.html"))
        attackers.append(opened.value)
        opened.value.wait_for_load_state()
        opened.value.evaluate(f"({SAY_HELLO})(() => opener.frames[0])")
        opened.value.evaluate(f'opener.frames[0].postMessage({ATTACK}, "*")')
    if when != "after it":
        greet(page, scene)
    is_whole(page)
    assert [attacker.evaluate("answers") for attacker in attackers] == [0, 0, 0]


def frame_beside(page: Page, url: str, name: str) -> Frame:
    """Load the address in a frame of this name, beside the panel's."""
    page.evaluate(
        """([src, name]) => new Promise((onload) => {
          const frame = document.createElement("iframe");
          document.body.append(Object.assign(frame, { src, onload, name }));
        })""",
        [url, name],
    )
    frame = page.frame(name)
    assert frame is not None
    return frame


def test_a_frame_beside_the_panel_cannot_greet_it(host: Callable[[], Page], scene: PanelScene) -> None:
    page, frames = host(), list[Frame]()
    for name, site in (("evil", scene.evil), ("own", scene.helpdesk)):
        site.pages["/beside.html"] = "<!doctype html><title>beside</title>"
        frames.append(frame_beside(page, site.url("/beside.html"), name))
        frames[-1].evaluate(f"({SAY_HELLO})(() => parent.frames[0])")
    greet(page, scene)
    is_whole(page)
    assert [frame.evaluate("answers") for frame in frames] == [0, 0]


def test_a_page_that_may_only_hold_the_frame_cannot_talk(context: BrowserContext, scene: PanelScene) -> None:
    scene.top.pages["/host.html"] = HOST.format(address=scene.url)
    page = context.new_page()
    page.goto(scene.top.url("/host.html"))
    page.wait_for_function("told('ready').length === 1")
    page.evaluate("window.port = hello()")
    page.evaluate("code => say({ type: 'code', code })", scene.code())
    expect(panel_frame(page).locator("main")).to_contain_text("Waiting for the page")
    panel_frame(page).evaluate("() => new Promise((done) => setTimeout(done))")
    assert page.evaluate("got.map(({ type }) => type)") == ["ready"]


def test_a_page_that_is_not_listed_cannot_hold_the_panel(context: BrowserContext, scene: PanelScene) -> None:
    for path in ("/panel", "/"):
        assert is_blocked(context, scene.evil, FRAME.format(address=f"{scene.url}{path}"))
        assert not is_blocked(context, scene.helpdesk, FRAME.format(address=f"{scene.url}{path}"))


def is_blocked(context: BrowserContext, site: Site, text: str) -> bool:
    """Whether a page is kept from holding the panel, in a frame of its own or of one inside it."""
    site.pages["/frames.html"] = text
    return is_blocked_at(context, site.url("/frames.html"))


def is_blocked_at(context: BrowserContext, url: str) -> bool:
    page = context.new_page()
    page.goto(url)
    for _ in range(LOOKS):
        addresses = [frame.url for frame in page.frames if frame.name == "panel"]
        if addresses and addresses[0] not in ("", ":", "about:blank"):
            return addresses[0].startswith("chrome-error:")
        page.wait_for_timeout(LOOK_MS)
    raise AssertionError("the frame did not load, nor was it blocked")


NESTED = (("evil", "helpdesk"), ("helpdesk", "evil"), ("top", "evil"), ("evil", "top"))
"""Of a page that holds another one, which holds the panel."""


def test_a_frame_in_a_frame_of_an_unlisted_page_does_not_load(
    context: BrowserContext, scene: PanelScene
) -> None:
    def holding(inner: Site) -> str:
        inner.pages["/inner.html"] = FRAME.format(address=f"{scene.url}/panel")
        return f'<!doctype html><title>outer</title><iframe src="{inner.url("/inner.html")}"></iframe>'

    for outer, inner in NESTED:
        assert is_blocked(context, getattr(scene, outer), holding(getattr(scene, inner))), (outer, inner)
    assert not is_blocked(context, scene.top, holding(scene.helpdesk))


@pytest.mark.parametrize(
    "opaque",
    ['sandbox="allow-scripts" src="/inner.html"', 'src="data:text/html;base64,DATA"'],
    ids=["sandbox", "data"],
)
def test_a_page_without_an_origin_cannot_hold_the_panel(
    context: BrowserContext, scene: PanelScene, opaque: str
) -> None:
    inner = FRAME.format(address=f"{scene.url}/panel")
    scene.helpdesk.pages["/inner.html"] = inner
    opaque = opaque.replace("DATA", base64.b64encode(inner.encode()).decode())
    assert is_blocked(
        context, scene.helpdesk, f"<!doctype html><title>outer</title><iframe {opaque}></iframe>"
    )


def test_the_same_machine_by_another_name_is_another_page(context: BrowserContext, scene: PanelScene) -> None:
    scene.helpdesk.pages["/frames.html"] = FRAME.format(address=f"{scene.url}/panel")
    url = scene.helpdesk.url("/frames.html")
    assert not is_blocked_at(context, url)
    assert is_blocked_at(context, url.replace("127.0.0.1", "localhost"))


def test_a_window_that_is_not_the_pop_up_cannot_end_a_sign_in(
    host: Callable[[], Page], context: BrowserContext, scene: PanelScene
) -> None:
    page = host()
    page.evaluate("window.port = hello()")
    panel = panel_frame(page)
    with context.expect_page() as opened:
        panel.get_by_role("button", name="Sign in").click()
    pop_up = opened.value
    expect(pop_up.get_by_label("Agent name")).to_be_visible()
    scene.evil.pages["/attack.html"] = "<!doctype html><title>attack</title>"
    with context.expect_page() as second:
        page.evaluate("url => void window.open(url)", scene.evil.url("/attack.html"))
    second.value.wait_for_load_state()
    redeemed: list[str] = []
    context.on("request", lambda sent: redeemed.append(sent.url) if sent.url.endswith("/token") else None)
    other = frame_beside(page, f"{scene.url}/panel", "other")
    attackers = ((second.value, "opener.frames[0]"), (page, "frames.panel"), (other, "parent.frames[0]"))
    for attacker, target in attackers:
        attacker.evaluate(f'{target}.postMessage("?code=stolen&state=guessed", "*")')
    assert redeemed == []
    pop_up.get_by_label("Tenant").select_option("clinic")
    pop_up.get_by_label("Agent name").fill("ann")
    with pop_up.expect_event("close"):
        pop_up.get_by_role("button", name="Sign in").click()
    page.wait_for_function("told('signed_in').length === 1")
    assert len(redeemed) == 1


def test_a_page_gets_nothing_of_a_sign_in_that_it_opened(context: BrowserContext, scene: PanelScene) -> None:
    """The pop-up's page hands the issuer's answer to a window of its own origin alone."""
    scene.evil.pages["/attack.html"] = "<!doctype html><title>attack</title>"
    page = context.new_page()
    page.goto(scene.evil.url("/attack.html"))
    page.evaluate("window.got = []; addEventListener('message', ({ data }) => got.push(data))")
    with context.expect_page() as opened:
        page.evaluate("url => void window.open(url)", f"{scene.url}/panel?code=secret&state=x")
    if not opened.value.is_closed():
        opened.value.wait_for_event("close")
    assert page.evaluate("got") == []


@pytest.mark.parametrize("who", ["evil", "top"])
def test_the_package_greets_no_window_but_the_panel(
    context: BrowserContext, scene: PanelScene, who: str
) -> None:
    """Another page takes the panel's place in the frame, or posts from beside it."""
    site = {"evil": scene.evil, "top": scene.top}[who]
    ready = '{ v: 1, type: "ready" }'
    site.pages["/panel"] = f"""<!doctype html><title>attack</title><script>
      window.got = [];
      addEventListener("message", ({{ data }}) => got.push(data));
      parent.postMessage({ready}, "*");
      window.done = true;
    </script>"""
    page = context.new_page()
    page.goto(scene.helpdesk.url(f"/example.html?assistant={scene.url}"))
    frame = page.frame_locator("iframe[title=Assistant]")
    expect(frame.get_by_role("button", name="Sign in")).to_be_visible()
    page.evaluate(
        "url => document.querySelector('iframe[title=Assistant]').setAttribute('src', url)",
        site.url("/panel"),
    )
    inside = page.frames[1]
    inside.wait_for_url(site.url("/panel"))
    inside.wait_for_function("window.done")
    page.evaluate("new Promise((done) => setTimeout(done))")
    assert inside.evaluate("got") == []
