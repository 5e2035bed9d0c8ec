"""Canonical document → plain text with sections."""

from assistant.knowledge.parsing.document import parse_document

__all__ = ["parse_document"]
