"""What only a laptop runs: the stand-ins for AWS and the processes around them."""
