"""The probe: one question asked from the care side through the private link, and what came of it."""

from assistant.probing.outcome import Outcome, ProbeResult
from assistant.probing.probe import probe_once

__all__ = ["Outcome", "ProbeResult", "probe_once"]
