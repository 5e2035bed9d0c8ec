"""The CDK entry: ``npx cdk synth -c tenant=pharmacy '**'``. Context alone selects the stages.

- ``-c tenant=NAME``: that tenant's stage, and only its file is read; without it, every tenant's.
- ``-c tenants=DIR``: tenant files elsewhere. ``-c images=FILE``: another lock of images.
- ``-c stage=account`` or ``-c stage=care_app``: one of those instead; CDK does not order stages, so they
  are never deployed together with a tenant's. ``-c stage=every``: all, to be judged.
- ``-c care_app=DIR``: files of the care side elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError
from stacks.application import build, warn_of_ends

if __name__ == "__main__":
    try:
        made = Path(build().synth().directory)
        warn_of_ends(made, today=SystemClock().now().date())
    except ConfigurationError as error:
        sys.exit(f"{error.message}")
