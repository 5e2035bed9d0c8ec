"""The CDK entry: ``npx cdk synth -c tenant=pharmacy '**'``. What it holds is said by context alone.

- ``-c tenant=NAME``: that tenant's stage, and only its file is read; without it, every tenant's.
- ``-c tenants=DIR``: tenant files elsewhere. ``-c images=FILE``: another lock of images.
- ``-c unlocked=review``: templates of a ``hipaa`` tenant whose images are not locked by digest, to be judged;
  they cannot be deployed.
- ``-c stage=account`` or ``-c stage=care_app``: those instead; CDK orders no stages, so they never stand
  beside a tenant's. ``-c care_app=DIR``: files of the care side elsewhere.
"""

from __future__ import annotations

import sys

from assistant.domain.errors import ConfigurationError
from stacks.application import build

if __name__ == "__main__":
    try:
        build().synth()
    except ConfigurationError as error:
        sys.exit(f"{error.message}")
