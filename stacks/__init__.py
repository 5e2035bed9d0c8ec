"""The stacks of a deployment. They read `assistant.tenant` and nothing else of the product's code."""
