"""The CDK's command line, run for one tenant."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from assistant.domain.errors import ConfigurationError, DeploymentError

_STANDARD_ERROR = 2
_SYNTH_LIMIT_S = 300
DEPLOY_LIMIT_S = 330 * 60
"""Longer than the templates' own timeouts, so that it never ends a healthy deployment: four hours for an
endpoint's blue/green deployment (capacity 60 minutes, download 30, start 60, twice ten of baking; the two
endpoints in parallel), and one and a half for the other stacks, half of that the search domain."""
IMAGE_LOCK = Path("images.lock.toml")
ImageLockFile = Annotated[Path, Option("--images", metavar="FILE", help="Lock file of image digests.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CdkCommand:
    """Runs the CDK's command line in ``root``, a clone with ``cdk.json`` and its packages installed."""

    root: Path
    tenant: str
    tenants_dir: Path
    images: Path

    @property
    def assembly(self) -> Path:
        """The folder that ``synth`` writes and every later step reads, so that all use the same templates.

        It is not ``cdk.out``, where ``cdk synth`` keeps what another run wrote.
        """
        return self.root / "build" / "deploy" / self.tenant

    @property
    def stage(self) -> Path:
        """The folder of the tenant's templates. Raises DeploymentError before ``synth``."""
        assemblies = sorted(self.assembly.glob("assembly-*"))
        if len(assemblies) != 1:
            raise DeploymentError(
                f"{self.assembly} holds {len(assemblies)} stages, not the one of {self.tenant}."
            )
        return assemblies[0]

    def synth(self) -> None:
        """Write the tenant's templates; cdk-nag's findings are errors. Raises DeploymentError."""
        shutil.rmtree(self.assembly, ignore_errors=True)
        context = ["-c", f"tenant={self.tenant}", "-c", f"tenants={self.tenants_dir.resolve()}"]
        context += ["-c", f"images={self.images.resolve()}"]
        self._run(
            ["synth", "--quiet", "--output", str(self.assembly), *context, "**"], limit_s=_SYNTH_LIMIT_S
        )

    def deploy(self, extra: Sequence[str], *, stacks: Sequence[str] = ()) -> None:
        """Deploy the synthesized stacks: all, or ``stacks`` by their names in the tenant's stage (``Data``).

        Raises DeploymentError.
        """
        stage = self.stage.name.removeprefix("assembly-")
        chosen = [f"{stage}/{name}" for name in stacks] or ["**"]
        self._run(["deploy", "--app", str(self.assembly), *extra, *chosen], limit_s=DEPLOY_LIMIT_S)

    def diff(self, extra: Sequence[str]) -> None:
        """Show what deploying would change. Raises DeploymentError.

        By the templates alone: a change set would need the rights to publish files and to make it.
        """
        self._run(
            ["diff", "--app", str(self.assembly), "--method=template", *extra, "**"], limit_s=_SYNTH_LIMIT_S
        )

    def _run(self, arguments: Sequence[str], *, limit_s: float) -> None:
        command = self.root / "node_modules" / ".bin" / "cdk"
        if not command.exists() or not (self.root / "cdk.json").exists():
            raise ConfigurationError(
                f"{self.root}: no CDK here. Run this in a clone of the repository, after make setup."
            )
        try:
            done = subprocess.run(
                [str(command), *arguments],
                cwd=self.root,
                env=_with_our_node(os.environ),
                # Where CI is set, cdk writes to standard output, which belongs to --json.
                stdout=_STANDARD_ERROR,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeploymentError(f"cdk {arguments[0]} did not end within {limit_s:.0f} s.") from None
        if done.returncode:
            raise DeploymentError(f"cdk {arguments[0]} ended with {done.returncode}; see its output above.")


def _with_our_node(environment: Mapping[str, str]) -> dict[str, str]:
    """Put the Node beside our Python first in PATH: the machine's own may be too old, or missing."""
    beside = str(Path(sys.executable).parent)
    return {**environment, "PATH": f"{beside}{os.pathsep}{environment.get('PATH', '')}"}
