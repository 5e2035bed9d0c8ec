"""Settings of the task that makes training sets."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assistant.options.desk.settings import FeedbackSettings
from assistant.process.settings import FOLDER_PATTERN, SCRATCH


class MakingSetsSettings(FeedbackSettings):
    """One run of the task that makes training sets."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_SETS_")

    sets_s3: str = Field(pattern=FOLDER_PATTERN)
    """`s3://bucket/prefix/` that gets each new set."""
    sets_dir: Path = SCRATCH / "sets"
    """Folder in which a set is made before it is copied."""
