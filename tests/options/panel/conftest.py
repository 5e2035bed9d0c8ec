"""Chromium for the panel, and what stands around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.conftest import STEP_LIMIT_MS
from tests.options.panel.scene import PACKAGE, PanelScene, bundled, running_scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelScene]:
    with running_scene(tmp_path_factory.mktemp("panel")) as scene:
        scene.helpdesk.pages |= {
            "/example.html": (PACKAGE / "example.html").read_text(encoding="utf-8"),
            "/example.js": bundled(PACKAGE / "example.ts"),
            "/panel.js": bundled(PACKAGE / "index.ts"),
        }
        yield scene


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1000, "height": 760})
    context.set_default_timeout(STEP_LIMIT_MS)
    yield context
    context.close()


@pytest.fixture
def helpdesk(context: BrowserContext, scene: PanelScene) -> Callable[..., Page]:
    """Open the example page, with a code or without."""

    def opened(code: str | None = None) -> Page:
        scene.helpdesk.pages.pop("/assistant-code", None)
        if code is not None:
            scene.helpdesk.pages["/assistant-code"] = code
        page = context.new_page()
        page.goto(scene.helpdesk.url(f"/example.html?assistant={scene.url}"))
        return page

    return opened
