"""The metrics that a task tells CloudWatch: emitted, scaled on, drawn and alarmed by the same names."""

from __future__ import annotations

NAMESPACE = "PrivateCareAssistant"
DIMENSION = "Service"
"""The only dimension: its value is that of one tenant's service, the same in each of its tasks."""
ACTIVE_STREAMS = "ActiveStreams"
"""Answers in progress in one task, a sample a second; the average over all samples is that per task."""
INTERNAL_ERRORS = "InternalErrors"
"""Failures that nobody expected, in one task since its last line."""

ANSWER_ENDED = "answer_ended"
"""``event`` of the line that is logged once an answer, whose fields metric filters count."""
FINISH_REASON = "finish_reason"
"""Its field: a finish reason, the code of an error, or ``disconnected``."""
MODEL_FAILED = "model_failed"
"""Its field: true where the model could not be asked, was late or broke off, and a quote took its place."""
FIRST_TOKEN_MS = "first_token_ms"  # noqa: S105 - a token of text
"""Its field: from the request to the first token; null where none came."""
