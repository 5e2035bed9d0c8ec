"""A real Chromium, for the demo with its helpdesk."""

from playwright.sync_api import expect

from tests.browser.conftest import STEP_LIMIT_MS, browser, open_console

__all__ = ["browser", "open_console"]
expect.set_options(timeout=STEP_LIMIT_MS)
