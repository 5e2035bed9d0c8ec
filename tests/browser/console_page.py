"""The console as an agent uses it, and the faults that no test may cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Locator, Page, expect

ANSWER_LIMIT_MS = 60_000
_LOOKS, _LOOK_MS = 100, 100
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  window.reportViolation(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


@dataclass
class Faults:
    """Errors, policy violations and external requests of a page."""

    violations: list[str] = field(default_factory=list[str])
    """Of its content security policy."""
    errors: list[str] = field(default_factory=list[str])
    """Uncaught, or written to the browser's console."""
    outside: list[str] = field(default_factory=list[str])
    """Requests that leave this machine."""

    def watch(self, context: BrowserContext) -> None:
        context.expose_function("reportViolation", lambda text: self.violations.append(text))
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("request", lambda request: self._note_request(request.url))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", lambda message: self._note_message(message.type, message.text))

    def taken(self) -> Faults:
        """Return what was recorded, and begin anew."""
        kept = self.violations, self.errors, self.outside
        found = Faults(*(list(each) for each in kept))
        for each in kept:
            each.clear()
        return found

    def _note_request(self, url: str) -> None:
        parts = urlsplit(url)
        # the browser's own viewer of PDF files is an extension that it brings
        if (
            parts.scheme not in {"data", "blob", "chrome", "chrome-extension"}
            and parts.hostname != "127.0.0.1"
        ):
            self.outside.append(url)

    def _note_message(self, kind: str, text: str) -> None:
        # A refused call is a state of the page, which tests look at; the browser logs each as an error.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.errors.append(text)


@dataclass
class ConsolePage:
    """One tab. ``answer``, ``sources`` and so on locate the parts of the page that an agent sees."""

    page: Page
    url: str
    faults: Faults

    def open(self) -> None:
        self.page.goto(self.url)

    def sign_in(
        self, *, tenant: str = "pharmacy", agent: str = "amira", roles: tuple[str, ...] = ("agent",)
    ) -> None:
        """Press the console's sign-in button, fill in the issuer's form and return to the console."""
        self.open()
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_label("Tenant").select_option(tenant)
        self.page.get_by_label("Agent name").fill(agent)
        for role in ("agent", "knowledge_owner", "auditor", "reviewer", "manager"):
            self.page.locator(f"#role-{role}").set_checked(role in roles)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    @property
    def question(self) -> Locator:
        return self.page.locator("#question")

    @property
    def answer(self) -> Locator:
        return self.page.locator(".answer")

    @property
    def citations(self) -> Locator:
        return self.page.locator(".citation")

    @property
    def sources(self) -> Locator:
        return self.page.locator(".source")

    @property
    def panel(self) -> Locator:
        return self.page.locator(".panel")

    @property
    def reply(self) -> Locator:
        return self.page.get_by_label("Your reply to the patient")

    @property
    def notice(self) -> Locator:
        return self.page.locator(".sheet :is(.notice, .limit)")

    @property
    def turns(self) -> Locator:
        return self.page.locator(".turn-list .turn-link")

    @property
    def status(self) -> Locator:
        """The live region."""
        return self.page.locator("[role=status]")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def edit_reply(self) -> None:
        """Press the key below an answer that opens the editor of a reply, whatever it begins with."""
        self.page.locator("#edit-reply").click()

    def ask(self, question: str) -> None:
        """Ask, and return without waiting for the answer."""
        self.question.fill(question)
        self.question.press("Enter")

    def ask_to_the_end(self, question: str) -> None:
        self.ask(question)
        self.await_end()

    def await_end(self) -> None:
        expect(self.button("Ask")).to_be_visible(timeout=ANSWER_LIMIT_MS)
        expect(self.page.locator(".progress")).to_have_count(0)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Poll for a condition that no locator can express."""
        for _ in range(_LOOKS):
            if holds():
                return
            self.page.wait_for_timeout(_LOOK_MS)
        raise AssertionError(f"it did not come to hold within {_LOOKS * _LOOK_MS} ms")

    def has_sideways_scroll(self) -> bool:
        return self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )

    def focused(self) -> str:
        """Return the id of the element with the focus, or its visible text."""
        return self.page.evaluate(
            "(document.activeElement.id || document.activeElement.textContent || '').trim()"
        )


OpenConsole = Callable[..., ConsolePage]
"""Opens a console; see the fixtures."""
