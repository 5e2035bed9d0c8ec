"""Document → passages → vectors → index, with states; withdrawal."""
