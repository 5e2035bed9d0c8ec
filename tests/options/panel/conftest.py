"""The panel in real Chromium: real service and issuer, and pages of other origins on ports of their own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page

from assistant.domain.clock import SystemClock
from assistant.laptop.issuer import issuer_application
from assistant.laptop.tokens import CareCase, Grant, TokenSigner, issue_context, load_or_create_signing_key
from tests.browser.conftest import STEP_LIMIT_MS
from tests.browser.product import REPOSITORY, in_thread
from tests.stage.running_service import RunningService, Scene, service_on, service_settings
from tests.stage.sagemaker_runtime import sagemaker_socket
from tests.stage.tokens import CARE, CONTEXT_AUDIENCE

PACKAGE = REPOSITORY / "assistant/options/panel/package"
ESBUILD = REPOSITORY / "node_modules/.bin/esbuild"
NOTHING_KEPT = "sessionStorage.length + localStorage.length"
_TYPES = {".js": "text/javascript", ".txt": "text/plain"}
_Result = TypeVar("_Result")


@dataclass
class Site:
    """Pages of one origin, by path."""

    port: int
    pages: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"{self.origin}{path}"


@contextmanager
def running_site() -> Iterator[Site]:
    site = Site(0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the standard library's
            path = urlsplit(self.path).path
            body = site.pages.get(path)
            self.send_response(404 if body is None else 200)
            self.send_header("content-type", f"{_TYPES.get(Path(path).suffix, 'text/html')}; charset=utf-8")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@dataclass
class PanelScene:
    helpdesk: Site
    """May hold the panel and talk to it."""
    top: Site
    """May hold the helpdesk's page, and may not talk."""
    evil: Site
    """May neither."""
    service: RunningService
    issuer: str
    state_dir: Path
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return self.service.url

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def token(self, agent: str = "ann", tenant: str = "clinic") -> str:
        key = load_or_create_signing_key(self.state_dir)
        signer = TokenSigner(key=key, issuer=self.issuer, clock=SystemClock())
        return signer.access_token(Grant(tenant, agent))

    def context(self, agent: str = "ann", tenant: str = "clinic", customer: str = "C-1") -> str:
        case = CareCase(customer, {"order": ("1-1",)})
        grant = Grant(tenant, agent)
        return issue_context(case, grant, state_dir=self.state_dir, issuer=CARE, audience=CONTEXT_AUDIENCE)

    def code(self, agent: str = "ann", tenant: str = "clinic", origin: str | None = None) -> str:
        """Return a one-time code as the helpdesk's server fetches it."""
        answer = httpx.post(
            f"{self.url}/v1/panel/codes",
            json={"context": self.context(agent, tenant), "origin": origin or self.helpdesk.origin},
            headers={"authorization": f"Bearer {self.token(agent, tenant)}"},
            timeout=20,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["code"]


@contextmanager
def running_scene(folder: Path) -> Iterator[PanelScene]:
    with ExitStack() as stack:
        helpdesk, top, evil = (stack.enter_context(running_site()) for _ in range(3))
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        issuer = f"http://127.0.0.1:{listening.getsockname()[1]}"
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        opened = AsyncExitStack()
        state = folder / "state"

        async def start() -> RunningService:
            scene = Scene(
                frame_ancestors=(helpdesk.origin, top.origin),
                cors_origins=(helpdesk.origin,),
                writes=False,
                more_of_tenants=f'[care_context]\nissuer = "{CARE}"\n',
            )
            sagemaker = await opened.enter_async_context(sagemaker_socket())
            settings = service_settings(
                folder, scene, sagemaker_url=sagemaker.url, jwks_url=f"{issuer}/jwks.json"
            )
            changes = {"issuer": issuer, "care_jwks_url": f"{issuer}/care/jwks.json", "state_dir": state}
            settings = settings.model_copy(update=changes)
            service = await opened.enter_async_context(service_on(settings, scene, sagemaker))
            await service.know("refill", "A refill is due after 25 days. Ask for it in the app.")
            return service

        try:
            service = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=60)
            names = {"clinic": "Clinic", "pharmacy": "Pharmacy"}
            application = issuer_application(
                issuer, state_dir=state, tenants=names, redirect_origins=frozenset((service.url,))
            )
            stack.enter_context(in_thread(application, listening))
            yield PanelScene(helpdesk, top, evil, service, issuer, state, loop)
        finally:
            asyncio.run_coroutine_threadsafe(opened.aclose(), loop).result(timeout=60)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=10)
            loop.close()


def bundled(entry: Path) -> str:
    """Return a script of the package, as a page's bundler makes it."""
    done = subprocess.run(
        [ESBUILD, str(entry), "--bundle", "--format=esm", "--log-level=error"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def panel_of(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Assistant]")


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
