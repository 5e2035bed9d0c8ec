"""Reads text without a model: words, sentences, quantities, Markdown.

Answering and ingestion share it, so that documents and questions are read alike.
"""
