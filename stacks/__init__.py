"""The stacks of a deployment. They read `assistant.settings` and nothing else of the product's code."""
