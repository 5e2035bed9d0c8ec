"""kill -9 of recall's sweep at seeded points: each affected reply is listed once, and none other.

500 replies, 40 changes and 20 kills by a new seed in ``check-recall``; a few here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SIZES = [os.environ.get(name, few) for name, few in (("KILLS", "5"), ("REPLIES", "60"), ("CHANGES", "12"))]
SEED = os.environ.get("SEED", "7")


@pytest.mark.timeout(700)
def test_a_killed_sweep_lists_every_affected_reply_once_and_none_other(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.options.desk.sweeping_process", str(tmp_path), SEED, *SIZES],
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found = json.loads(ended.stdout.splitlines()[-1]) | {"seed": SEED}
    sys.stdout.write(f"\nrecall: {json.dumps(found)}\n")
    assert [str(found[name]) for name in ("killed", "sent", "changes")] == SIZES, found
    assert found["expected"] == found["listed"] > 0, found
    assert 0 < found["nobody"] < found["changes"], found
    wrong = ("missed", "others", "doubled", "elsewhere", "repeated", "different")
    assert {name: found[name] for name in wrong if found[name]} == {}, found
