"""The functions that Lambda runs: one folder a function, ``lambdas/<verb_noun>/handler.py``."""
