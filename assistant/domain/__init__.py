"""The nouns of the product as plain types: no AWS, no web framework, no engine."""
