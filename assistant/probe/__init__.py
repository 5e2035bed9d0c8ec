"""The probe: asks one question from the care side, through the private link, and reports the outcome."""
