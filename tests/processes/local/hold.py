"""A command in a process of its own: uses stand-in processes until a line comes on stdin.

python hold.py STATE VERSION MODE_OF_A NAME…
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from local_processes import Local

from assistant.local.processes import end_in_order_on_signals


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    state, version, mode, *names = sys.argv[1:]
    local = Local(Path(state), version=version, modes={"a": mode})
    end_in_order_on_signals()
    supervisor = local.supervisor(say=say)
    with supervisor.using(names, command="hold"):
        say("using")
        sys.stdin.readline()
    say("released")


if __name__ == "__main__":
    main()
