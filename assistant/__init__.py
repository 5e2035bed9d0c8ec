"""A private assistant for customer-care agents in regulated fields."""
