"""An agent's work without a mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.console_page import ConsolePage
from tests.browser.product import ScriptedLlm
from tests.browser.stand_in import QUESTION, SUPPORTED, UNSUPPORTED

_TAB_LIMIT = 60
_FOCUSED = """() => {
  const at = document.activeElement;
  return at === document.body ? "" : (at.ariaLabel || at.labels?.[0]?.textContent || at.textContent).trim();
}"""
_SHOWS_FOCUS = """() => {
  const at = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(at);
  return at === document.body || (outlineStyle === "solid" && parseFloat(outlineWidth) > 1);
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control of that accessible name, or visible text, has the focus."""
    seen: list[str] = []
    for _ in range(_TAB_LIMIT):
        page.keyboard.press("Tab")
        focused: str = page.evaluate(_FOCUSED)
        if name in focused:
            return
        seen.append(focused)
    raise AssertionError(f"{name} was not reached by Tab; reached: {seen}")


def test_an_agent_works_with_the_keyboard_alone(stage: ConsolePage, llm: ScriptedLlm) -> None:
    page, keys = stage.page, stage.page.keyboard
    llm.says(f"{SUPPORTED} {UNSUPPORTED}")
    stage.open()
    tab_to(page, "Sign in")
    keys.press("Enter")
    expect(page.get_by_label("Tenant")).to_be_visible()
    tab_to(page, "Tenant")
    keys.type("Pharmacy")
    tab_to(page, "Agent name")
    keys.type("amira")
    keys.press("Enter")

    expect(stage.question).to_be_focused()
    keys.type("Reject 79, refill too soon:")
    keys.press("Shift+Enter")
    keys.type("when can a 30-day supply be filled again?")
    keys.press("Enter")
    stage.await_end()
    expect(page.locator("#question-title")).to_contain_text("30-day supply")

    keys.press("Alt+Shift+KeyA")
    expect(page.locator("#answer-title")).to_be_focused()
    tab_to(page, "Source ")
    expect(page.locator("#citation-preview")).to_be_visible()
    keys.press("Enter")
    expect(page.locator("#panel-title")).to_be_focused()
    expect(stage.panel.locator("mark.passage").first).to_be_in_viewport()
    tab_to(page, "Close")
    keys.press("Enter")
    expect(stage.citations.first).to_be_focused()

    keys.press("Alt+Shift+KeyE")
    expect(stage.reply).to_be_focused()
    expect(stage.reply).to_be_editable()
    keys.press("Control+a")
    keys.type("Dear patient, the plan returned code 79.")
    page.reload()
    expect(stage.reply).to_have_value("Dear patient, the plan returned code 79.")
    expect(stage.turns).to_have_count(1)
    stage.reply.focus()
    keys.press("Control+Enter")
    expect(page.locator(".sent-list summary")).to_have_count(1)
    expect(page.locator("#edit-reply")).to_be_focused()

    tab_to(page, "Bad")
    keys.press("Space")
    tab_to(page, "Wrong")
    keys.press("Space")
    tab_to(page, "A better answer")
    keys.type("Day 23 of 30.")
    tab_to(page, "Save the mark")
    keys.press("Enter")
    expect(page.locator(".latest")).to_contain_text("Marked bad")
    expect(page.locator("#verdict-bad")).to_be_focused()
    page.reload()
    expect(page.locator(".latest")).to_contain_text("Marked bad")
    expect(page.locator(".sent-list summary")).to_contain_text("Recorded as sent at")

    keys.press("Alt+Shift+KeyN")
    expect(stage.question).to_be_focused()
    expect(stage.turns).to_have_count(0)


def test_the_first_tab_stop_is_the_skip_link(stage: ConsolePage) -> None:
    stage.sign_in()
    stage.page.locator(".tabs a").first.focus()
    stage.page.keyboard.press("Shift+Tab")
    expect(stage.page.locator(".skip")).to_be_focused()
    stage.page.keyboard.press("Enter")
    expect(stage.page.locator("#main")).to_be_focused()


def test_every_tab_stop_has_a_visible_focus_ring(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(f"{SUPPORTED} {UNSUPPORTED}")
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    stage.page.keyboard.press("Alt+Shift+KeyE")
    hidden: list[str] = []
    for _ in range(_TAB_LIMIT):
        stage.page.keyboard.press("Tab")
        shown: bool = stage.page.evaluate(_SHOWS_FOCUS)
        if not shown:
            hidden.append(stage.focused())
    assert hidden == []


def test_a_dialog_traps_the_focus_and_restores_it(stage: ConsolePage) -> None:
    stage.sign_in()
    stage.button("Keyboard").focus()
    stage.page.keyboard.press("Enter")
    expect(stage.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    for _ in range(4):
        stage.page.keyboard.press("Tab")
        inside: bool = stage.page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
        assert inside
    stage.page.keyboard.press("Escape")
    expect(stage.button("Keyboard")).to_be_focused()
