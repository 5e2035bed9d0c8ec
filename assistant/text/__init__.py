"""Reads text outside any model: words, sentences, numbers.

Answering and ingestion share it, so that what is stored and what is asked are read alike.
"""
