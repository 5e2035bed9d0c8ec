"""What is kept of answers so that the assistant gets better, and what must not be."""
