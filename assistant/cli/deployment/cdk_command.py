"""The CDK's own command line, as a clone of this repository has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.domain.errors import ConfigurationError, DeploymentError

_SYNTH_LIMIT_S = 300
DEPLOY_LIMIT_S = 330 * 60
"""More than the templates permit, or a deployment that is well would be cut off: four hours for an endpoint's
blue/green deployment (within them capacity 60 minutes, download 30, start 60, twice ten of baking; the two
endpoints go at once), and one and a half for the stacks around it, half of that the search domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdkCommand:
    """Runs in ``root``, a clone with ``cdk.json`` and its packages installed."""

    root: Path
    tenant: str
    tenants_dir: Path
    images: Path

    @property
    def assembly(self) -> Path:
        """What ``synth`` writes and every later step reads, so that all of them see the same templates. A
        folder of its own: ``cdk synth`` leaves in ``cdk.out`` what another run wrote there."""
        return self.root / "build" / "deploy" / self.tenant

    @property
    def stage(self) -> Path:
        """The folder of the tenant's templates. Raises DeploymentError before ``synth``."""
        found = sorted(self.assembly.glob("assembly-*"))
        if len(found) != 1:
            raise DeploymentError(f"{self.assembly} holds {len(found)} stages, not the one of {self.tenant}.")
        return found[0]

    def synth(self) -> None:
        """Write the tenant's templates; cdk-nag's findings are errors. Raises DeploymentError."""
        shutil.rmtree(self.assembly, ignore_errors=True)
        context = ["-c", f"tenant={self.tenant}", "-c", f"tenants={self.tenants_dir.resolve()}"]
        context += ["-c", f"images={self.images.resolve()}"]
        self._run(
            ["synth", "--quiet", "--output", str(self.assembly), *context, "**"], limit_s=_SYNTH_LIMIT_S
        )

    def deploy(self, extra: Sequence[str], *, stacks: Sequence[str] = ()) -> None:
        """Deploy what was synthesized, stack after stack: all of it, or the ``stacks`` by their names in the
        tenant's stage (``Data``). Raises DeploymentError."""
        stage = self.stage.name.removeprefix("assembly-")
        chosen = [f"{stage}/{name}" for name in stacks] or ["**"]
        self._run(["deploy", "--app", str(self.assembly), *extra, *chosen], limit_s=DEPLOY_LIMIT_S)

    def diff(self, extra: Sequence[str]) -> None:
        """Show what deploying would change. Raises DeploymentError."""
        self._run(["diff", "--app", str(self.assembly), *extra, "**"], limit_s=_SYNTH_LIMIT_S)

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
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeploymentError(f"cdk {arguments[0]} did not end within {limit_s:.0f} s.") from None
        if done.returncode:
            raise DeploymentError(f"cdk {arguments[0]} ended with {done.returncode}; what it said is above.")


def _with_our_node(environment: Mapping[str, str]) -> dict[str, str]:
    """The Node beside our Python first: a machine's own may be too old, or absent."""
    beside = str(Path(sys.executable).parent)
    return {**environment, "PATH": f"{beside}{os.pathsep}{environment.get('PATH', '')}"}
