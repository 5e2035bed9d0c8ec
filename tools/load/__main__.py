"""The service under load, beside a relay by hand: every figure with what is asked of it.

python -m tools.load              about eight minutes on two cores; fails unless every figure holds
python -m tools.load --quick      less than a minute; fails unless every answer is right
python -m tools.load --profile F  where the service's CPU goes, into the file F (wants py-spy)
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tools.load.figures import killed_row, pair_rows, resumed_row, rounds_rows
from tools.load.measuring import (
    count_missing_records,
    measure_killed,
    measure_pairs,
    measure_resumed,
    measure_rounds,
    profile_service,
)
from tools.load.scene import Scene
from tools.load.workload import FULL, QUICK, Effort
from tools.processes import end_on_signals
from tools.tables import Figure, figures_table


def measure(scene: Scene, effort: Effort) -> list[Figure]:
    """Measure every figure."""
    service = scene.start_warm_service()
    began_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began_s:6.0f} s  {what}", file=sys.stderr, flush=True)

    pairs = measure_pairs(scene, service, effort, say=say)
    say("records found")
    answer_ids = [answer_id for pair in pairs.rate for answer_id in pair.service.outcome.answer_ids]
    missing = count_missing_records(scene, answer_ids)
    rows = pair_rows(pairs, missing_records=missing, many_streams=effort.many_streams)
    say("streams cut and resumed")
    rows.append(resumed_row(measure_resumed(scene, service, effort), streams=effort.resumed_streams))
    service.stop()
    rows += rounds_rows(measure_rounds(scene, effort, say=say))
    say("a service killed")
    rows.append(killed_row(measure_killed(scene, effort), streams=effort.killed_streams))
    for code, count in scene.state()["refused"].items():
        say(f"DynamoDB's stand-in refused {count} times: {code}")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    end_on_signals()
    effort = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as processes:
        scene = Scene(processes, Path(scratch))
        if arguments.profile is not None:
            profile_service(scene, into=arguments.profile)
            return 0
        before = os.getloadavg()[0]
        rows = measure(scene, effort)
    print(figures_table(rows), end="")
    after = os.getloadavg()[0]
    print(f"\n{os.cpu_count()} cores; load average {before:.1f} before, {after:.1f} after")
    judged = [row for row in rows if effort.judges_times or not row.timed]
    return 0 if all(row.holds for row in judged) else 1


if __name__ == "__main__":
    raise SystemExit(main())
