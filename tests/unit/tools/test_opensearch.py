"""The files of an OpenSearch node, and the Java that runs it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from assistant.domain.errors import LocalRuntimeError
from tools import opensearch as node
from tools.opensearch import Artifact, Distribution, Manifest, find_java

ROOT = Path(__file__).parents[3]


MAVEN = """#!/bin/sh
echo "$@" >> '{folder}/calls'
if [ "$(wc -l < '{folder}/calls')" -le {fails} ]; then echo "[ERROR] no such artifact"; exit 1; fi
for given; do case "$given" in -Dmaven.repo.local=*) local="${{given#*=}}";; esac; done
into="$local/org/example/search/engine/1.0"
mkdir -p "$into" && cp '{folder}/content' "$into/engine-1.0.zip"
"""


class Maven:
    """An ``mvn`` that has one file; the first ``fails`` calls fail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, content: bytes, *, fails: int = 0) -> None:
        (self._folder / "content").write_bytes(content)
        program = self._folder / "mvn"
        program.write_text(MAVEN.format(folder=self._folder, fails=fails))
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self._folder / "calls").read_text().splitlines()


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maven:
    folder = tmp_path / "maven"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Maven(folder)


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        runs = zipfile.ZipInfo("engine-1.0/bin/engine")
        runs.external_attr = 0o755 << 16
        zipped.writestr(runs, "#!/bin/sh\n")
        zipped.writestr("engine-1.0/config/engine.yml", "x" * 5000)
    return path.read_bytes()


def distribution(folder: Path, content: bytes) -> Distribution:
    sha256 = hashlib.sha256(content).hexdigest()
    artifact = Artifact("org.example.search", "engine", "1.0", "zip", sha256, ".")
    return Distribution(folder, Manifest("1.0", 21, (artifact,)))


def silent(text: str) -> None: ...


def test_a_file_is_fetched_by_its_coordinates_and_unpacked_runnable(
    tmp_path: Path, archive: bytes, maven: Maven
) -> None:
    maven.has(archive)
    home = distribution(tmp_path / "build", archive).ensure(silent)
    assert "-Dartifact=org.example.search:engine:1.0:zip -Dtransitive=false" in maven.calls[0]
    assert (home / "bin" / "engine").stat().st_mode & 0o777 == 0o755
    assert (home / "config" / "engine.yml").stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_not_fetched_again(tmp_path: Path, archive: bytes, maven: Maven) -> None:
    maven.has(archive)
    first = distribution(tmp_path / "build", archive).ensure(silent)
    assert distribution(tmp_path / "build", archive).ensure(silent) == first
    assert len(maven.calls) == 1


def test_a_fetch_that_failed_is_tried_again(tmp_path: Path, archive: bytes, maven: Maven) -> None:
    maven.has(archive, fails=1)
    home = distribution(tmp_path / "build", archive).ensure(silent)
    assert len(maven.calls) == 2
    assert (home / "config" / "engine.yml").read_text() == "x" * 5000


def test_a_file_of_another_checksum_is_deleted(tmp_path: Path, archive: bytes, maven: Maven) -> None:
    maven.has(archive + b"!")
    with pytest.raises(LocalRuntimeError, match="was deleted"):
        distribution(tmp_path / "build", archive).ensure(silent)
    assert list((tmp_path / "build" / "files").iterdir()) == []


def test_a_repository_that_fails_is_said_with_the_file_s_name(
    tmp_path: Path, archive: bytes, maven: Maven
) -> None:
    maven.has(archive, fails=99)
    with pytest.raises(LocalRuntimeError, match=r"engine-1\.0\.zip could not be fetched.*no such artifact"):
        distribution(tmp_path / "build", archive).ensure(silent)
    assert len(maven.calls) == 4


def test_without_maven_the_message_says_what_to_install(
    tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalRuntimeError, match=r"install Maven.*settings\.xml"):
        distribution(tmp_path / "build", archive).ensure(silent)


def test_every_file_of_the_real_node_is_pinned_to_one_version() -> None:
    manifest = Manifest.read()
    assert all(artifact.version.startswith(manifest.version) for artifact in manifest.artifacts)
    assert all(len(artifact.sha256) == 64 for artifact in manifest.artifacts)
    compose = (ROOT / "containers" / "opensearch" / "compose.yaml").read_text()
    assert f"OPENSEARCH_VERSION:-{manifest.version}}}" in compose


# Which Java the local OpenSearch node gets.


def home_of(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\n")
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose only place for Java is this folder, and whose JAVA_HOME is too old."""
    monkeypatch.setattr(node, "_PLACES", (str(tmp_path / "jvm"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(home_of(tmp_path / "named", "1.8.0_402")))
    home_of(tmp_path / "jvm" / "java-17", "17.0.15")
    return tmp_path / "jvm"


def test_the_first_java_that_is_new_enough_is_taken(places: Path) -> None:
    with pytest.raises(LocalRuntimeError, match=r"needs Java 21.*Java 8.*Java 17.*JAVA_HOME"):
        find_java(21)
    wanted = home_of(places / "java-25", "25")
    assert find_java(21) == wanted
