"""Learns from signals: ranker weights, training sets and comparisons of models. Needs numpy."""
