"""Settings of the function that moves feedback."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assistant.process.settings import DocumentFunctionSettings


class FeedbackSettings(DocumentFunctionSettings):
    """Processes that read the records and the feedback store."""

    records_table: str
    """DynamoDB table of answers, verdicts, sent replies and acts."""
    events_table: str
    """DynamoDB table with the keys of sealed texts."""
    desk_table: str
    """DynamoDB table of the review desk."""
    labels_bucket: str
    """S3 bucket of feedback events."""
    texts_bucket: str
    """S3 bucket of sealed texts."""


class MovingSettings(FeedbackSettings):
    """``move_feedback``: moves signals from the records to the feedback store, of the kinds that the tenant
    file switches on, opens cases at the desk, and erases a patient's signals."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_MOVE_")

    feedback_key_id: str | None = None
    """KMS key that encrypts labels and texts; the buckets' default when absent."""
    pseudonyms_parameter: str = Field(min_length=1)
    """Name of the SSM parameter with the key of pseudonyms."""
    within_s: float = Field(default=50.0, gt=0, le=840.0)
    """After this time no further group is begun."""
