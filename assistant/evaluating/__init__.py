"""How good the product is: retrieval, the evidence gate and citations, measured on committed questions."""
