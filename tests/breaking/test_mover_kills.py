"""kill -9 of the process that moves feedback, at seeded points: no act is lost, and none is read twice.

``KILLS=50`` and a new seed in ``check-kills``; a few here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("SEED", "7"))


@pytest.mark.timeout(700)
def test_a_killed_mover_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.breaking.moving_process", str(tmp_path), str(SEED), str(KILLS)],
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found = json.loads(ended.stdout.splitlines()[-1])
    found["seed"] = SEED
    assert found["killed"] == KILLS, found
    assert (found["events"], found["doubled"], found["pending"]) == (found["acts"], 0, 0), found
    assert found["readable"] == found["acts"]
    # A bad verdict, a changed dose and an unanswered question of each round, once.
    assert found["cases"] == 3 * found["acts"] // 4
