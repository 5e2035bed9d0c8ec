"""Tools for developing and documenting the product. Never in the wheel."""
