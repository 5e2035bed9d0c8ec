"""How good the product is: answers, ranking and gate, measured and fitted on questions with known answers."""
