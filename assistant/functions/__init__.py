"""The functions' process: what Lambda calls, around the use cases of the worker and of the deployment.

``lambdas/<verb_noun>/handler.py`` names one opening and one handling; everything else is here and below.
"""

from assistant.functions.entry import FunctionEntry

__all__ = ["FunctionEntry"]
