"""What callers and redactor agree on about captured calls of the embedding endpoint."""

from __future__ import annotations

from typing import Literal

CapturePurpose = Literal["question", "passage"]
"""Questions of agents, or passages of the corpus: both go to one endpoint, which captures by one share."""
CAPTURE_PURPOSES: tuple[CapturePurpose, ...] = ("question", "passage")


def capture_attribute(purpose: CapturePurpose) -> str:
    """Return what the call says of itself (SageMaker's custom attributes), and its capture repeats."""
    return f"purpose={purpose}"
