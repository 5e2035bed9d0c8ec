"""Mistakes made by operator and resource, in every right set of templates; and changes that are none.

What a mutation does makes which mistake it is: an operator changes a place only where the place decides.
"""
