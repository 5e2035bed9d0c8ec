"""A note of a conversation, made from its record."""
