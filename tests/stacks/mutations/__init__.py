"""Mistakes that operators make in each resource of every correct set of templates, and harmless changes.

An operator changes a place only where the place decides, so each mutation is one known mistake.
"""
