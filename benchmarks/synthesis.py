"""How long ``cdk synth`` of one tenant takes: validated and not validated.

``python -m benchmarks.synthesis``: the pharmacy, given as many declared internal systems (``[[reach]]``) as
make four hundred resources. Whole commands, interleaved, so that a busy machine burdens all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.tables import Figure, machine_line, print_figures

ROOT = Path(__file__).parents[1]
TENANT = "pharmacy"
SYSTEMS = 20
LEAST_RESOURCES = 400
_REACH = """
[[reach]]
name = "system-{number}"
port = 443
service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-{number:017x}"
"""
_LIMIT_S = 200


def measure_synthesis(folder: Path, *, rounds: int) -> list[Figure]:
    """Synthesize in each way ``rounds`` times; the medians."""
    out, tenants = folder / "out", _tenant_folder(folder)
    ways = {"validated": (), "not validated": ("--no-validation",)}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, options in ways.items():
            times[way].append(_synth(tenants, out, options))
    resources = sum(
        len(json.loads(path.read_text(encoding="utf-8")).get("Resources", {}))
        for path in out.rglob("*.template.json")
    )
    if resources < LEAST_RESOURCES:
        raise SystemExit(f"{TENANT} has {resources} resources; declare more than {SYSTEMS} systems.")
    validated_s, plain_s = (statistics.median(times[way]) for way in ways)
    return [
        _limited(f"synth of {TENANT}, {resources} resources, validated", validated_s, most_s=15.0),
        _limited("the same, not validated", plain_s, most_s=6.0),
    ]


def _limited(what: str, seconds: float, *, most_s: float) -> Figure:
    return Figure(what, f"≤ {most_s:.0f} s", f"{seconds:.1f} s", seconds <= most_s)


def _tenant_folder(folder: Path) -> Path:
    """Write the tenant's file with its declared systems."""
    text = (ROOT / "tests/tenants" / f"{TENANT}.toml").read_text(encoding="utf-8")
    head, _, glossary = text.partition("[glossary]")
    systems = "".join(_REACH.format(number=number) for number in range(SYSTEMS))
    place = folder / "tenants"
    shutil.copytree(ROOT / "tests/tenants/connectors", place / "connectors")
    (place / f"{TENANT}.toml").write_text(f"{head}{systems}\n[glossary]{glossary}", encoding="utf-8")
    return place


def _synth(tenants: Path, out: Path, options: Sequence[str]) -> float:
    shutil.rmtree(out, ignore_errors=True)
    context = ["-c", f"tenant={TENANT}", "-c", f"tenants={tenants}"]
    command = [ROOT / "node_modules/.bin/cdk", "synth", "--quiet", "--output", out, *options, *context, "**"]
    began_s = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"cdk synth ended with {done.returncode}: {done.stderr[-1500:]}")
    return time.perf_counter() - began_s


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds, before = parser.parse_args().rounds, machine_line()
    with tempfile.TemporaryDirectory() as folder:
        return print_figures(measure_synthesis(Path(folder), rounds=rounds), before=before)


if __name__ == "__main__":
    raise SystemExit(main())
