"""A real Chromium, for the pages of options."""

from tests.browser.conftest import (
    axe_source,
    browser,
    check,
    open_console,
    pytest_collection_modifyitems,
    stand_in,
)

__all__ = ["axe_source", "browser", "check", "open_console", "pytest_collection_modifyitems", "stand_in"]
