"""``make check-upgrade``: the release before makes a state, this release takes it over, and gives it back.

``build/release-before`` has that release with an environment of its own. ``RECORDS`` answers with feedback
are written by its code; the commands of both releases ask, as a client would.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

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

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.source)}
        command = [str(self.python), *arguments]
        return subprocess.run(
            command, cwd=self.source, env=environment, check=check, capture_output=True, text=True
        )

    def assistant(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        given = ("-m", "assistant.cli.main", "--state", str(self.state), "--port", "0", "--json")
        entry = ("-c", "from assistant.cli.main import run; run()", *given[2:])
        return self.run(*entry, *arguments, check=check)

    def ask(self, question: str) -> Any:
        done = self.assistant("ask", "--tenant", TENANT, question, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def read(self, *arguments: str) -> Any:
        return json.loads(self.run(str(SCRIPT), *arguments).stdout)

    def end(self) -> None:
        self.assistant(*self.stop, check=False)

    @property
    def folder(self) -> str:
        return str(self.state / "tenants" / TENANT)


@dataclass
class Client(threading.Thread):
    """Asks until it is stopped, and counts what had to be asked again, and what failed twice."""

    release: Release
    asked: int = 0
    retried: int = 0
    failed: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.stopped.is_set():
            self.asked += 1
            question = QUESTIONS[self.asked % len(QUESTIONS)]
            if self.release.ask(question) is None:
                self.retried += 1
                self.failed += self.release.ask(question) is None


def sources(answer: Any) -> list[str]:
    return [source["document_id"] for source in answer["sources"]]


def upgrade_with_kills(new: Release) -> int:
    """Kill the command at random moments, then let it end; return how many kills hit it."""
    moments, hit = random.Random(SEED), 0  # noqa: S311 (moments of kills)
    entry = "from assistant.cli.main import run; run()"
    command = [
        str(new.python),
        "-c",
        entry,
        "--state",
        str(new.state),
        "tenant",
        "upgrade",
        "--tenant",
        TENANT,
    ]
    started = time.monotonic()
    new.assistant("tenant", "upgrade", "--tenant", TENANT, "--plan")
    whole_s = time.monotonic() - started
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, cwd=new.source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit += 1
    new.assistant("tenant", "upgrade", "--tenant", TENANT)
    return hit


@pytest.mark.timeout(3000)
def test_a_state_of_the_release_before_is_taken_over_and_given_back(tmp_path: Path) -> None:
    state = tmp_path / "state"
    old = Release(BEFORE / "source", BEFORE / "venv" / "bin" / "python", state, ("local", "down"))
    new = Release(ROOT, Path(sys.executable), state, ("tenant", "down"))
    fresh = Release(ROOT, Path(sys.executable), tmp_path / "fresh", ("tenant", "down"))
    try:
        first = old.ask(QUESTIONS[0])
        assert first is not None
        old.run(str(SCRIPT), "fill", old.folder, str(RECORDS), first["answer_id"])
        made = old.read("read", old.folder)
        assert (made["answers"], made["verdicts"], made["cases"]) == (RECORDS, RECORDS, RECORDS // 10)

        refused = new.assistant("ask", "--tenant", TENANT, QUESTIONS[0], check=False)
        assert "assistant tenant upgrade --tenant" in refused.stderr

        old.assistant("local", "up", check=False)
        client = Client(old)
        client.start()
        hit = upgrade_with_kills(new)
        client.stopped.set()
        client.join()
        assert (client.failed, client.retried <= client.asked) == (0, True)
        old.end()

        assert new.read("read", new.folder) == made
        answers = [new.ask(question) for question in QUESTIONS]
        assert all(answers)
        for question, answer in zip(QUESTIONS, answers, strict=True):
            # The index holds passages as the release before cut them: the last places may differ.
            other = sources(fresh.ask(question))
            assert sources(answer)[0] == other[0]
            assert len({*sources(answer)} & {*other}) >= len({*other}) - 1
        new.end()
        texts = {a["answer_id"]: new.read("answer", new.folder, a["answer_id"])["text"] for a in answers}

        new.assistant("tenant", "upgrade", "--tenant", TENANT, "--back")
        assert old.read("read", old.folder) == made
        for answer_id, text in texts.items():
            assert old.read("answer", old.folder, answer_id)["text"] == text
        assert sources(old.ask(QUESTIONS[0])) == sources(first)
        old.end()

        new.assistant("tenant", "upgrade", "--tenant", TENANT)
        assert all(new.read("answer", new.folder, a["answer_id"])["newer"] for a in answers)
        asked = f"asked {client.asked} times meanwhile, {client.retried} retried"
        sys.stdout.write(f"\n{made}; {hit} kills; {asked}\n")
    finally:
        for release in (old, new, fresh):
            release.end()
