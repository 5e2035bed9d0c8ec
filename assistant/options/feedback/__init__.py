"""What agents did with answers, as events, and captured calls of models."""
