"""Reads synthesized templates and says what is wrong with them. Knows no CDK, and works on anyone's."""
