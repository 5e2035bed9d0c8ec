"""``python -m assistant.options.models_lab.make_sets``: makes a deployment's training set of 90 days.

It is the scheduled task of ``stack/learning.py``, and writes what ``assistant learn export`` writes, to
``ASSISTANT_SETS_SETS_S3``. It exits with 1 where it failed. A window without an example is no failure: nobody
marked an answer. Its metric, 1 or 0, feeds the alarm *Sets not made*.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta

import structlog

from assistant.domain.clock import SystemClock
from assistant.domain.errors import AssistantError, InvalidRequestError
from assistant.options.models_lab.opened import open_making_sets, put_set, training_sets
from assistant.options.models_lab.settings import MakingSetsSettings
from assistant.process.telemetry import configure_logging
from assistant.service.function import emit_metric
from assistant.tenant.deployed_names import SETS_RUN

WINDOW = timedelta(days=90)
_log = structlog.get_logger(__name__)


async def prepare() -> bool:
    """Make a set, copy it to its bucket, log its place, and return whether the run ended well."""
    settings, ended_well = MakingSetsSettings.read(), False
    configure_logging(settings.log_level)
    now = SystemClock().now()
    try:
        async with open_making_sets(settings) as stores:
            exported = await training_sets(stores, now - WINDOW, now)
        folder = await asyncio.to_thread(exported.write, settings.sets_dir)
        place = await put_set(settings, folder)
        rows = {row[0]: int(row[1]) for row in exported.rows}  # examples by split
        _log.info("training_set_made", place=place, examples=rows, left_out=dict(exported.left_out))
        ended_well = True
    except InvalidRequestError as error:
        _log.info("no_training_set", reason=error.message)
        ended_well = True
    except AssistantError as error:
        _log.error("training_set_failed", code=error.code, reason=error.message)
    finally:
        emit_metric(SETS_RUN, float(ended_well), service=settings.metrics_service)
    return ended_well


if __name__ == "__main__":
    # The first process of a container ignores the signal: here it interrupts, and the run ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(0 if asyncio.run(prepare()) else 1)
