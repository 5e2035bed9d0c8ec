"""``check-upgrade``: the release before makes a state, and this release takes it over.

``build/release-before`` has that release with an environment of its own. ``RECORDS`` answers with feedback
are written by its code; the commands of both releases ask, as a client would.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stage.tenant_files import checkout_tenants

ROOT = Path(__file__).parents[2]
BEFORE = ROOT / "build" / "release-before"
RECORDS = int(os.environ.get("RECORDS", "10000"))
SEED = int(os.environ.get("SEED", "1"))
KILLS = 20
SCRIPT = Path(__file__).with_name("release_state.py")
TENANT = "pharmacy"
QUESTIONS = (
    "What do I do with reject 79, refill too soon?",
    "How do I reship a package that was lost?",
    "What do I tell a patient whose prior authorization was denied?",
)


@dataclass(frozen=True)
class Release:
    """One release's code and environment, on one state."""

    source: Path
    python: Path
    state: Path
    stop: tuple[str, str]
    tenants: Path = Path("tenants")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.source)}
        command = [str(self.python), *arguments]
        return subprocess.run(
            command, cwd=self.source, env=environment, check=check, capture_output=True, text=True
        )

    def assistant(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        places = ("--tenants", str(self.tenants), "--state", str(self.state))
        entry = ("-c", "from assistant.cli.main import run; run()", *places, "--port", "0", "--json")
        return self.run(*entry, *arguments, check=check)

    def ask(self, question: str) -> Any:
        done = self.assistant("ask", "--tenant", TENANT, question, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def read(self, *arguments: str) -> Any:
        return json.loads(self.run(str(SCRIPT), *arguments).stdout)

    def read_again(self) -> Any:
        return json.loads(self.assistant("knowledge", "read-again", "--tenant", TENANT).stdout)

    def end(self) -> None:
        self.assistant(*self.stop, check=False)

    @property
    def folder(self) -> str:
        return str(self.state / "tenants" / TENANT)


def sources(answer: Any) -> list[str]:
    return [source["document_id"] for source in answer["sources"]]


def open_with_kills(new: Release) -> int:
    """Kill a process at random moments while it opens the stores, then let it end; return how many kills hit
    it."""
    moments, hit = random.Random(SEED), 0  # noqa: S311 (moments of kills)
    command = [str(new.python), str(SCRIPT), "open", new.folder]
    environment = {**os.environ, "PYTHONPATH": str(new.source)}
    for _ in range(KILLS):
        process = subprocess.Popen(command, cwd=new.source, env=environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(0.3, 4.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit += 1
    return hit


@pytest.mark.timeout(3000)
def test_a_state_of_the_release_before_is_taken_over(tmp_path: Path) -> None:
    state = tmp_path / "state"
    old = Release(BEFORE / "source", BEFORE / "venv" / "bin" / "python", state, ("tenant", "down"))
    tenants = checkout_tenants(tmp_path)
    new = Release(ROOT, Path(sys.executable), state, ("tenant", "down"), tenants)
    fresh = Release(ROOT, Path(sys.executable), tmp_path / "fresh", ("tenant", "down"), tenants)
    try:
        first = old.ask(QUESTIONS[0])
        assert first is not None
        old.run(str(SCRIPT), "fill", old.folder, str(RECORDS), first["answer_id"])
        made = old.read("read", old.folder)
        assert (made["answers"], made["verdicts"], made["cases"]) == (RECORDS, RECORDS, RECORDS // 10)

        old.end()
        hit = open_with_kills(new)
        assert new.read("read", new.folder) == made
        answers = [new.ask(question) for question in QUESTIONS]
        assert all(answers)
        for question, answer in zip(QUESTIONS, answers, strict=True):
            # The index holds passages as the release before cut them: the last places may differ.
            other = sources(fresh.ask(question))
            assert sources(answer)[0] == other[0]
            assert len({*sources(answer)} & {*other}) >= len({*other}) - 1
        again = new.read_again()
        assert (again["current"], again["refused"], again["without_original"], again["failed"]) == (
            0,
            {},
            [],
            {},
        )
        assert again["unchanged"] + len(again["changed"]) == made["documents"]
        assert new.read_again()["current"] == made["documents"]
        assert sources(new.ask(QUESTIONS[0]))[0] == sources(first)[0]
        new.end()
        assert new.read("read", new.folder) == made
        assert all(new.read("answer", new.folder, a["answer_id"])["newer"] for a in answers)
        sys.stdout.write(f"\n{made}; {hit} kills\n")
    finally:
        for release in (old, new, fresh):
            release.end()
