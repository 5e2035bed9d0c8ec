"""Learning from captured calls: what is kept of them to improve the assistant."""
