"""Builds an image definition where no Docker runs: executes its own instructions into folders.

A stage is a folder that stands for its root. RUN steps are run by ``/bin/sh -c`` in the stage's WORKDIR, as
Docker runs them, but on this machine's root: they may name only paths relative to it. The base image is an
empty virtual environment of this Python.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]

_RUN_LIMIT_S = 240
_MOUNTS = re.compile(r"^(--mount=\S+\s+)+")
_NOTED = ("LABEL", "EXPOSE", "STOPSIGNAL", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "USER")


class UnknownInstructionError(Exception):
    """The definition says something that this executor cannot do."""


@dataclass
class Stage:
    """A stage of the build; the last one is the image."""

    root: Path
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict[str, str])
    noted: dict[str, str] = field(default_factory=dict[str, str])
    """Instructions that change no file, by name."""

    def inside(self, path: str) -> Path:
        """Return where a path of the image lies on this machine."""
        absolute = os.path.normpath(os.path.join(self.workdir, path))  # noqa: PTH118 (a path of the image)
        return self.root / absolute.lstrip("/")

    def outside(self, value: str) -> str:
        """Return an environment variable's value with the image's own paths where they lie here."""
        parts = value.split(":")
        return ":".join(str(self.inside(part)) if self._holds(part) else part for part in parts)

    def _holds(self, path: str) -> bool:
        return path.startswith("/") and self.inside(path).exists()


@dataclass
class Image:
    """What was built, and how it is to be started."""

    stage: Stage
    python: Path
    """Folder of the base image's ``python``."""

    @property
    def entrypoint(self) -> list[str]:
        return json.loads(self.stage.noted["ENTRYPOINT"])

    @property
    def healthcheck(self) -> list[str]:
        return json.loads(self.stage.noted["HEALTHCHECK"].partition("CMD ")[2])

    @property
    def user_id(self) -> int:
        return int(self.stage.noted["USER"].partition(":")[0])

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return what a process of the container sees: the image's variables, then the given ones."""
        own = {name: self.stage.outside(value) for name, value in self.stage.environment.items()}
        return {"PATH": f"{self.python}:/usr/bin:/bin"} | own | dict(given)


def build_image(folder: Path, *, definition: Path, context: Path) -> Image:
    """Execute a Dockerfile with the files of ``context`` that its own ignore file lets through."""
    python = _base(folder / "base")
    parser = DockerfileParser(str(definition), cache_content=True)
    builder = _Builder(folder, context, context_files(definition, context), python)
    for step in parser.structure:
        builder.execute(step["instruction"].upper(), step["value"])
    return Image(builder.stage, python)


@dataclass
class _Builder:
    folder: Path
    context: Path
    files: list[str]
    """Files of the context, relative to it."""
    python: Path
    stages: dict[str, Stage] = field(default_factory=dict[str, Stage])

    @property
    def stage(self) -> Stage:
        return list(self.stages.values())[-1]

    def execute(self, instruction: str, value: str) -> None:
        if instruction == "FROM":
            name = value.split(" AS ")[1] if " AS " in value else "image"
            self.stages[name] = Stage(self.folder / name)
        elif instruction == "WORKDIR":
            self.stage.workdir = value
            self.stage.inside(".").mkdir(parents=True, exist_ok=True)
        elif instruction == "ENV":
            self.stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(value))
        elif instruction == "COPY":
            self._copy(shlex.split(value))
        elif instruction == "RUN":
            self._run(_MOUNTS.sub("", value))
        elif instruction in _NOTED:
            self.stage.noted[instruction] = value
        elif instruction not in ("ARG", "COMMENT"):
            raise UnknownInstructionError(instruction)

    def _copy(self, words: list[str]) -> None:
        *sources, target = [word for word in words if not word.startswith("--")]
        flags = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
        if flags.keys() - {"from"} or len(sources) != 1:
            raise UnknownInstructionError(f"COPY {' '.join(words)}")
        to = self.stage.inside(target)
        if "from" in flags:
            shutil.copytree(self.stages[flags["from"]].inside(sources[0]), to)
            return
        source = sources[0].rstrip("/")
        found = [name for name in self.files if name == source or name.startswith(f"{source}/")]
        assert found, f"the context holds no {source}"
        for name in found:
            place = to if name == source else to / name.removeprefix(f"{source}/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.context / name, place)

    def _run(self, command: str) -> None:
        absolute = [word for word in shlex.split(command) if word.startswith("/")]
        if absolute:
            raise UnknownInstructionError(f"RUN with the path {absolute[0]}, which would be this machine's")
        where = self.stage.inside(".")
        environment = dict(os.environ) | {"PATH": f"{self.python}:/usr/bin:/bin"}
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=where,
            env=environment | {name: self.stage.outside(v) for name, v in self.stage.environment.items()},
            capture_output=True,
            text=True,
            timeout=_RUN_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def _base(folder: Path) -> Path:
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin"


def context_files(definition: Path, context: Path) -> list[str]:
    """Return the files that a build sends: what the definition's own ignore file lets through."""
    lines = Path(f"{definition}.dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return sorted(name for name in exclude_paths(str(context), patterns) if (context / name).is_file())
