"""``assistant deploy``, ``diff`` and ``images``: an order of steps around the plain CDK command."""
