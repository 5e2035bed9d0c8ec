"""The words of the power switch (``power_parameter``): what a tenant's endpoints shall be."""

from __future__ import annotations

from typing import Final

ON: Final = "on"
PAUSING: Final = "pausing"
"""They still stand, for what is in progress to end: nobody begins anything new."""
PAUSED: Final = "paused"
"""They are taken away, or were."""
RESUMING: Final = "resuming"
"""They are being made: nobody calls them yet."""
CLOSED: Final = (PAUSING, PAUSED, RESUMING)
"""Nobody calls an endpoint while it says one of these."""
