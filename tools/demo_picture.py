"""Takes README's animated picture in Chromium from a running demo: a question, its answer, the reply.

The demo (``assistant demo``) must run at ``url``. The elements below are found by the texts and classes of
the console (``assistant/service/console``): ``.examples``, ``.answer``, and ``.progress`` while something is
written.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

SIZE_PX = (1120, 700)
LOOK_MS = 60
"""Time between two screenshots of a page that changes."""
STEP_MS = 700
"""How long each change is shown: longer than it took, so that a viewer sees it."""
READ_MS = 2_600
"""How long a picture is shown that a viewer reads."""
END_MS = 60_000
"""Limit of each step; later ``Film.until`` fails."""


class Film:
    """Screenshots of a page, each with how long it is shown. A page that has not changed is one screenshot.

    ``film.shoot()`` takes one, ``film.until(ended)`` takes them until a step has ended, ``film.save(file)``
    writes.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._shots: list[bytes] = []
        self.lengths_ms: list[int] = []

    def shoot(self, length_ms: int = STEP_MS) -> None:
        """Take the page as it is; an unchanged page is shown for the longer of both times."""
        shot = self._page.screenshot(animations="disabled", caret="hide")
        if self._shots and self._shots[-1] == shot:
            self.lengths_ms[-1] = max(self.lengths_ms[-1], length_ms)
        else:
            self._shots.append(shot)
            self.lengths_ms.append(length_ms)

    def until(self, ends: Callable[[], bool]) -> None:
        """Take the page until ``ends()`` is true, and once more for reading. Raises TimeoutError after
        ``END_MS``."""
        last = time.monotonic() + END_MS / 1000
        while not ends():
            if time.monotonic() > last:
                raise TimeoutError("The page has not come to the end of this step: look at it in a browser.")
            self.shoot()
            self._page.wait_for_timeout(LOOK_MS)
        self.shoot(READ_MS)

    def save(self, file: Path) -> None:
        """Write an animated WebP that repeats without end (``loop=0``)."""
        first, *others = (Image.open(io.BytesIO(shot)).convert("RGB") for shot in self._shots)
        first.save(
            file,
            save_all=True,
            append_images=others,
            duration=self.lengths_ms,
            loop=0,
            lossless=True,
            method=6,
        )


def _sign_in(page: Page, url: str) -> None:
    """Sign in as agent amira of the pharmacy, on the demo's own page."""
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Tenant").select_option("pharmacy")
    page.get_by_label("Agent name").fill("amira")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def main(
    file: Annotated[Path, typer.Argument(help="Where the picture goes.")] = Path("docs/images/demo.webp"),
    url: Annotated[str, typer.Option(help="Of the demo's console.")] = "http://127.0.0.1:8700/",
) -> None:
    """Ask the demo the first question of its page, then have the reply written."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise typer.BadParameter("Chromium is not installed: bash tests/install_programs.sh chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE_PX[0], "height": SIZE_PX[1]})
        _sign_in(page, url)
        film = Film(page)
        film.shoot(READ_MS)
        page.locator(".examples button").first.click()
        film.until(lambda: page.locator(".answer").count() > 0 and page.locator(".progress").count() == 0)
        page.get_by_role("button", name="Reply to the patient").click()
        reply = page.get_by_label("Your reply to the patient")
        film.until(
            lambda: reply.count() > 0 and reply.input_value() != "" and page.locator(".progress").count() == 0
        )
        film.save(file)
        browser.close()
    typer.echo(f"{file}: {len(film.lengths_ms)} pictures, {sum(film.lengths_ms) / 1000:.0f} s")


if __name__ == "__main__":
    typer.run(main)
