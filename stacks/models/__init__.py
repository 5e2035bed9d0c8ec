"""The models stack: the two SageMaker endpoints and the power switch."""
