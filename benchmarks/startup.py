"""How long the service takes from exec to ready, and what it holds then: ``python -m benchmarks.startup``.

Bytecode is compiled first, as an image has it. The process is the whole service over an empty state folder;
the embedded engine is not in it, which is checked in the process's memory map.
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from assistant.model_server.artifact import ensure_artifact
from assistant.process.settings import ModelServerSettings, ServiceSettings
from benchmarks.indexing import BenchLayout
from tools.processes import end_on_signals, started
from tools.tables import Figure, machine_line, print_figures

_ENGINES = ("tantivy", "numpy", "openvino", "xllamacpp")
_TIMEOUT_S = 60.0
_MIB = 1024 * 1024


def measure_startup(rounds: int) -> Figure:
    """Start the service again and again over one state folder: the median of the seconds, the most memory."""
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
        log = Path(scratch) / "service.log"
        runs = [_start(settings, log=log) for _ in range(rounds + 1)][1:]  # the first warms the page cache
    seconds = statistics.median(run_s for run_s, _ in runs)
    resident_mib = max(resident for _, resident in runs) / _MIB
    return Figure(
        "service: from exec to ready, without the embedded engine",
        "≤ 2.5 s, ≤ 200 MiB",
        f"{seconds:.2f} s, {resident_mib:.0f} MiB",
        seconds <= 2.5 and resident_mib <= 200,
    )


def _start(settings: ServiceSettings, *, log: Path) -> tuple[float, int]:
    """Return seconds until the ready line, and resident bytes then."""
    environment = settings.environment() | {"PYTHONSAFEPATH": "1"}  # as an image: no folder of the caller
    began_s = time.monotonic()
    with started("assistant.service", log=log, environment=environment, timeout_s=_TIMEOUT_S) as service:
        seconds = time.monotonic() - began_s
        paths = [area.path for area in psutil.Process(service.pid).memory_maps(grouped=True)]
        loaded, joined = {Path(path).name.split(".")[0] for path in paths}, " ".join(paths)
        inside = [engine for engine in _ENGINES if engine in loaded or f"/{engine}/" in joined]
        if inside:
            raise SystemExit(f"The service has loaded {', '.join(inside)}.")
        return seconds, service.resident_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds, before = parser.parse_args().rounds, machine_line()
    end_on_signals()
    return print_figures([measure_startup(rounds)], before=before)


if __name__ == "__main__":
    raise SystemExit(main())
