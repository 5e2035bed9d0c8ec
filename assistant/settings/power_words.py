"""The words of the power switch (``power_parameter``): what a tenant's endpoints shall be."""

from __future__ import annotations

from typing import Final

ON: Final = "on"
PAUSED: Final = "paused"
RESUMING: Final = "resuming"
"""They are being made: nobody calls them yet."""
CLOSED: Final = (PAUSED, RESUMING)
"""Nobody calls an endpoint while it says one of these."""
