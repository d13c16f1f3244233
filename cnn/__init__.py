"""Convolutions whose inductive biases are fields of a value."""
