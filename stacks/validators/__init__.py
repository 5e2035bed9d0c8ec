"""What outside validators say of the synthesized templates, held against the table of exceptions."""
