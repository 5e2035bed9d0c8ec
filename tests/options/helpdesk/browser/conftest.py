"""A real Chromium, for the demo with its helpdesk."""

from tests.browser.conftest import browser, open_console

__all__ = ["browser", "open_console"]
