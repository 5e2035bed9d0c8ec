"""The probe: one question asked from the care side through the private link, and what came of it."""

from assistant.probe.probe import Outcome, ProbeResult, probe_once

__all__ = ["Outcome", "ProbeResult", "probe_once"]
