"""Which Java the local OpenSearch node gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.opensearch import java
from assistant.cli.opensearch.java import find_java
from assistant.domain.errors import LocalRuntimeError


def home_of(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\n")
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose only place for Java is this folder."""
    monkeypatch.setattr(java, "_PLACES", (str(tmp_path / "jvm"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    (tmp_path / "jvm").mkdir()
    return tmp_path / "jvm"


def test_the_first_that_is_new_enough_is_taken(places: Path) -> None:
    home_of(places / "java-17", "17.0.15")
    wanted = home_of(places / "java-25", "25")
    assert find_java(21) == wanted


def test_java_home_comes_first(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home_of(places / "java-25", "25.0.1")
    named = home_of(tmp_path / "named", "21.0.2")
    monkeypatch.setenv("JAVA_HOME", str(named))
    assert find_java(21) == named


def test_a_java_home_that_is_too_old_is_passed_over(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(home_of(tmp_path / "named", "1.8.0_402")))
    newer = home_of(places / "java-21", "21")
    assert find_java(21) == newer


def test_none_that_is_new_enough_is_said_with_what_was_found(places: Path) -> None:
    home_of(places / "java-17", "17.0.15")
    with pytest.raises(LocalRuntimeError, match=r"needs Java 21.*Java 17.*JAVA_HOME"):
        find_java(21)
