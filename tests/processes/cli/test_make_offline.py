"""``make`` without a package index: one plain sentence and what to set, from every tool that fetches."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What ``make setup`` reads, with an environment made already: a link to this one's tools."""
    for name in ("Makefile", "pyproject.toml", "package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def make(clone: Path, target: str) -> subprocess.CompletedProcess[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again when the block ends: nothing listens there
    nowhere = f"http://127.0.0.1:{port}/"
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(clone),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{nowhere}simple",
        "UV_DEFAULT_INDEX": f"{nowhere}simple",
        "UV_CACHE_DIR": str(clone / "uv-cache"),
        "UV_HTTP_RETRIES": "0",
        "npm_config_registry": nowhere,
        "npm_config_cache": str(clone / "npm-cache"),
    }
    return subprocess.run(
        ["make", target, f"PYTHON={sys.executable}"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def bootstrap(clone: Path) -> None:
    """Give the clone its tools, as ``.venv/bootstrap.stamp`` does."""
    tools = clone / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("python", "uv", "node", "npm"):
        (tools / name).symlink_to(Path(sys.executable).parent / name)
    (clone / ".venv" / "bootstrap.stamp").touch()


def test_the_first_fetch_says_it_plainly(clone: Path) -> None:
    done = make(clone, ".venv/bootstrap.stamp")

    assert done.returncode != 0
    assert "Cannot fetch packages of Python: the package index does not answer." in done.stderr
    assert "HTTPS_PROXY" in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert "No matching distribution" not in done.stderr
    assert "Retrying" not in done.stderr
    assert "No matching distribution" in (clone / "build" / "fetch.log").read_text()


def test_another_failure_is_shown_as_the_tool_says_it(clone: Path) -> None:
    (clone / "requirements" / "local.txt").write_text("this is no requirement\n")
    bootstrap(clone)

    done = make(clone, ".venv/local.stamp")

    assert done.returncode != 0
    assert "this is no requirement" in done.stderr
    assert "does not answer" not in done.stderr
