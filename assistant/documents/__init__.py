"""Brings documents from their sources into the index, and removes them from it."""
