"""``make scan-secrets`` finds what it is for: its options, on planted keys."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = Path(sys.executable).parent / "detect-secrets-hook"
PLANTED = {
    "private key": "-----BEGIN EC PRIVATE" + " KEY-----",
    "key of AWS": "AWS_ACCESS_KEY_ID=AKIA" + "3X7QK9ZP2MLVN5TD",
    "token of GitHub": "ghp_" + "x7Kq9ZpLmVn5TdRw3Bc8Yf2Hj6Gs4Na1Qe0U",
    "password in an address": "https://care:" + "hunter2@wiki.northshop.net",
}


def scan(file: Path) -> subprocess.CompletedProcess[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(r"^SECRET_SCAN := (.*)$", makefile, re.MULTILINE)
    command = [HOOK, *options.split(), file.name]
    return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_secret_is_found_with_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"first = 1\nsecond = '{text}'\n")
    done = scan(file)
    assert done.returncode == 1
    assert "settings.py:2" in done.stdout


def test_a_file_without_a_secret_passes(tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"digest = 'sha256:{'5a' * 32}'\nsecret = 'state:reach-orders'\n")
    assert scan(file).returncode == 0


def test_ci_and_every_delivery_scan() -> None:
    assert "make scan-secrets" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    (asked,) = re.findall(r"^check: (.*?) ##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert "scan-secrets" in asked.split()
