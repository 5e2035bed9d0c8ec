"""Reads synthesized CloudFormation templates and says what is wrong with them. Knows no CDK, and works on anyone's."""
