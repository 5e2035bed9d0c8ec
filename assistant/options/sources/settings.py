"""Settings of one run on AWS, and its metric."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from assistant.process.settings import StoringSettings

SOURCE_DIMENSION = "Source"
"""Second dimension of the metric below: the name of a source."""
SOURCE_READ = "SourceRead"
"""1 when a run of the source's connector read everything, 0 when it stopped early."""


class SyncingSettings(StoringSettings):
    """One run of a source's connector (``python -m assistant.options.sources.task SOURCE``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_SYNC_")
