"""Where this machine's Java is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from assistant.domain.errors import LocalRuntimeError

_PLACES = ("/usr/lib/jvm", "/opt", "/opt/java", "/Library/Java/JavaVirtualMachines")
_ASK_TIMEOUT_S = 20.0


def find_java(at_least: int) -> Path:
    """Return the home of the first Java that is new enough: JAVA_HOME's, the path's, the usual places'.

    Raises LocalRuntimeError saying what was looked for and how to get it.
    """
    seen: list[str] = []
    for home in _candidates():
        release = _release(home)
        if release is not None and release >= at_least:
            return home
        seen.append(f"{home} ({'no Java' if release is None else f'Java {release}'})")
    found = f"found only {', '.join(seen)}" if seen else "found none"
    raise LocalRuntimeError(
        f"OpenSearch needs Java {at_least} or later; {found}. Install one (Debian: apt-get install "
        f"openjdk-{at_least}-jre-headless, or a Temurin JDK) or set JAVA_HOME to it."
    )


def _candidates() -> Iterator[Path]:
    homes: list[Path] = []
    if named := os.environ.get("JAVA_HOME"):
        homes.append(Path(named))
    if found := shutil.which("java"):
        homes.append(Path(found).resolve().parents[1])
    for place in map(Path, _PLACES):
        if place.is_dir():
            homes += [entry.resolve() for entry in sorted(place.iterdir(), reverse=True)]
    for home in dict.fromkeys(homes):
        for inner in (home, home / "Contents" / "Home"):  # the second as macOS has it
            if (inner / "bin" / "java").is_file():
                yield inner
                break


def _release(home: Path) -> int | None:
    """Return the major release, from the file that every JDK has, or else from Java itself."""
    try:
        said = (home / "release").read_text(encoding="utf-8")
    except OSError:
        try:
            ran = subprocess.run(
                [home / "bin" / "java", "-version"],
                capture_output=True,
                text=True,
                timeout=_ASK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        said = ran.stderr
    match = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', said)
    return int(match.group(1)) if match else None
