"""Files and folders → canonical documents."""

from assistant.ingesting.sources.items import SourceDocument, SourceFailure, SourceItem
from assistant.ingesting.sources.reader import read_sources

__all__ = ["SourceDocument", "SourceFailure", "SourceItem", "read_sources"]
