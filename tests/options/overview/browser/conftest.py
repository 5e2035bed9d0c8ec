"""The console of the stand-in in a real Chromium; tests answer what the page asks of its numbers."""

from tests.browser.conftest import axe_source, browser, check, open_console, stand_in

__all__ = ["axe_source", "browser", "check", "open_console", "stand_in"]
