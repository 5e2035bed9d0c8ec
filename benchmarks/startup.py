"""How long the service takes from exec to ready, and what it holds then.

    python -m benchmarks.startup [--rounds N]

Bytecode is compiled first, as an image has it. The process is the whole service over an empty state folder;
the embedded engine is not in it, which is checked in the process's memory map.
"""

from __future__ import annotations

import argparse
import compileall
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from assistant.model_server.artifact import ensure_artifact
from assistant.settings.process import ModelServerSettings, ServiceSettings, inherited_environment
from benchmarks.local_embedding import BenchLayout, machine_line

_ENGINES = ("tantivy", "numpy", "openvino", "xllamacpp")
_TIMEOUT_S = 60.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StartupFigures:
    seconds: float
    """Median over the rounds."""
    resident_bytes: int
    rounds: int
    machine: str

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        return [
            f"ready           {self.seconds:.2f} s after exec, median of {self.rounds}",
            f"resident        {self.resident_bytes / _MIB:.0f} MiB",
            f"machine         {self.machine}",
        ]


def measure_startup(*, rounds: int) -> StartupFigures:
    """Start the service again and again over one state folder."""
    compileall.compile_dir(str(Path(__file__).parents[1] / "assistant"), quiet=2)
    with tempfile.TemporaryDirectory() as scratch:
        layout = BenchLayout(Path(scratch))
        layout.write_tenant()
        for task in ("embedding", "generation"):
            ensure_artifact(ModelServerSettings(task=task, artifacts_dir=layout.models_dir))
        settings = ServiceSettings(
            port=0,
            tenants_dir=layout.tenants_dir,
            state_dir=layout.state_dir,
            model_artifacts_dir=layout.models_dir,
            sagemaker_endpoint_url="http://127.0.0.1:1",
            issuer="http://127.0.0.1:1",
            jwks_url="http://127.0.0.1:1/jwks.json",
        )
        runs = [_start(settings) for _ in range(rounds + 1)][1:]  # the first warms the page cache
    return StartupFigures(
        seconds=statistics.median(seconds for seconds, _ in runs),
        resident_bytes=max(resident for _, resident in runs),
        rounds=rounds,
        machine=machine_line(),
    )


def _start(settings: ServiceSettings) -> tuple[float, int]:
    """Return seconds until the ready line, and resident bytes then."""
    began_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "assistant.api"],
        env={**inherited_environment(), **settings.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _TIMEOUT_S)
        if not readable or not process.stdout.readline():
            raise SystemExit("The service did not get ready.")
        seconds = time.monotonic() - began_s
        seen = psutil.Process(process.pid)
        loaded = {Path(area.path).name.split(".")[0] for area in seen.memory_maps(grouped=True)}
        paths = " ".join(area.path for area in seen.memory_maps(grouped=True))
        inside = [engine for engine in _ENGINES if engine in loaded or f"/{engine}/" in paths]
        if inside:
            raise SystemExit(f"The service has loaded {', '.join(inside)}.")
        return seconds, seen.memory_info().rss
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    print(*measure_startup(rounds=parser.parse_args().rounds).lines(), sep="\n")


if __name__ == "__main__":
    main()
