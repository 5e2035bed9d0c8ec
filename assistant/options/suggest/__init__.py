"""Unasked suggestions in a running chat: one at most, and mostly none."""
