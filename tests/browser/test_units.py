"""The parts of the console that need no browser, by Node's own test runner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONSOLE = Path(__file__).parents[2] / "assistant" / "service" / "console"


def test_parts_without_a_page() -> None:
    node = shutil.which("node", path=f"{Path(sys.executable).parent}") or shutil.which("node")
    if node is None:
        pytest.fail("Node is not installed: make setup")
    done = subprocess.run(
        [node, str(CONSOLE / "run_tests.mjs")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_build_gives_the_same_bytes_again() -> None:
    before = {path.name: path.read_bytes() for path in (CONSOLE / "dist").iterdir()}
    node = shutil.which("node", path=f"{Path(sys.executable).parent}") or shutil.which("node")
    assert node is not None
    subprocess.run([node, str(CONSOLE / "build.mjs")], check=True, timeout=120)
    assert {path.name: path.read_bytes() for path in (CONSOLE / "dist").iterdir()} == before
