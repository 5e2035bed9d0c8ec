"""The metrics that functions tell CloudWatch, under ``service_metrics``' namespace and its one dimension."""

from __future__ import annotations

DOCUMENTS_POSTPONED = "DocumentsPostponed"
"""Messages put back to wait for an endpoint or a domain. Beside the power parameter it tells a pause from a
fault."""
RAW_FILES_REFUSED = "RawFilesRefused"
"""Raw files, or lines of them, that are no document."""
OLDEST_RAW_CAPTURE_AGE = "OldestRawCaptureAge"
"""Seconds since the oldest object in the quarantine was written; 0 when there is none."""
