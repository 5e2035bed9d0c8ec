"""The functions that Lambda runs: one module a function, ``lambdas/<verb_noun>.py``."""
