"""A small real process in place of a room: listens, says that it is ready, ends on SIGTERM.

python stand_in.py PORT [MODE]; MODE: ready, slow (ready after its GO file appears), crash, missing-package,
stubborn (ignores SIGTERM).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    port, mode = int(sys.argv[1]), (*sys.argv[2:], "ready")[0]
    if mode == "crash":
        sys.exit("The tokenizer of the model is damaged.")
    if mode == "missing-package":
        import package_that_is_not_there  # noqa: F401  # pyright: ignore
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else _stop)
    listener = socket.create_server(("127.0.0.1", port))
    until = time.monotonic() + 60
    while mode == "slow" and not Path(os.environ["STAND_IN_GO"]).exists() and time.monotonic() < until:
        time.sleep(0.02)
    sys.stdout.write(json.dumps({"ready": True, "host": "127.0.0.1", "port": port}) + "\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        connection.close()


if __name__ == "__main__":
    main()
