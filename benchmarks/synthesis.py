"""How long ``cdk synth`` of one tenant takes: validated, not validated, beside ten other tenant files.

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

ROOT = Path(__file__).parents[1]
TENANT = "pharmacy"
LEAST_RESOURCES = 400
OTHER_FILES = 10
LIMITS_S = {"validated": 15.0, "not validated": 6.0}
LARGEST_SHARE = 1.10
_REACH = """
[[reach]]
name = "system-{number}"
port = 443
service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-{number:017x}"
"""
_LIMIT_S = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        alone, among = _folders(Path(folder))
        resources = _enlarge(alone, among, Path(folder))
        ways = {
            "validated": (alone, ()),
            "not validated": (alone, ("--no-validation",)),
            f"not validated, {OTHER_FILES} other files": (among, ("--no-validation",)),
        }
        times = {way: [0.0] * rounds for way in ways}
        for number in range(rounds):
            for way, (tenants, options) in ways.items():
                times[way][number] = _synth(tenants, Path(folder) / "out", options)
    return _report(resources, {way: statistics.median(spent) for way, spent in times.items()}, times)


def _folders(folder: Path) -> tuple[Path, Path]:
    alone, among = folder / "alone", folder / "among"
    for place in (alone, among):
        place.mkdir()
        shutil.copy(ROOT / "tenants" / f"{TENANT}.toml", place)
    text = (ROOT / "tenants" / f"{TENANT}.toml").read_text(encoding="utf-8")
    for number in range(OTHER_FILES):
        name = f"other-{number}"
        (among / f"{name}.toml").write_text(text.replace(f'name = "{TENANT}"', f'name = "{name}"'))
    return alone, among


def _enlarge(alone: Path, among: Path, folder: Path) -> int:
    """Declare systems until the tenant has enough resources; return how many it has."""
    original = (alone / f"{TENANT}.toml").read_text(encoding="utf-8")
    for systems in range(0, 40, 4):
        declared = "".join(_REACH.format(number=number) for number in range(systems))
        head, _, glossary = original.partition("[glossary]")
        for place in (alone, among):
            (place / f"{TENANT}.toml").write_text(f"{head}{declared}\n[glossary]{glossary}", encoding="utf-8")
        _synth(alone, folder / "out", ("--no-validation",))
        resources = _count(folder / "out")
        if resources >= LEAST_RESOURCES:
            return resources
    raise SystemExit(f"even with forty declared systems {TENANT} has fewer than {LEAST_RESOURCES} resources")


def _synth(tenants: Path, out: Path, options: Sequence[str]) -> float:
    shutil.rmtree(out, ignore_errors=True)
    context = ["-c", f"tenant={TENANT}", "-c", f"tenants={tenants}", "-c", "unlocked=review"]
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
    spent_s = time.perf_counter() - began_s
    if done.returncode:
        raise SystemExit(f"cdk synth ended with {done.returncode}: {done.stderr[-1500:]}")
    return spent_s


def _count(out: Path) -> int:
    return sum(
        len(json.loads(path.read_text(encoding="utf-8")).get("Resources", {}))
        for path in out.rglob("*.template.json")
    )


def _report(resources: int, medians: dict[str, float], times: dict[str, list[float]]) -> int:
    print(
        f"{TENANT}: {resources} resources; seconds of the whole command, median of {len(times['validated'])}"
    )
    for way, median_s in medians.items():
        spread = f"({min(times[way]):.1f} to {max(times[way]):.1f})"
        limit = f"   asked ≤ {LIMITS_S[way]:.0f}" if way in LIMITS_S else ""
        print(f"  {way:<36} {median_s:5.1f} {spread}{limit}")
    share = medians[f"not validated, {OTHER_FILES} other files"] / medians["not validated"]
    asked = 100 * (LARGEST_SHARE - 1)
    print(f"  {OTHER_FILES} other files cost {100 * (share - 1):+.1f} %   asked ≤ {asked:.0f} %")
    held = all(medians[way] <= limit for way, limit in LIMITS_S.items()) and share <= LARGEST_SHARE
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
