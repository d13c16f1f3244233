"""Implementations that are faster than `lax` on a CPU. `cnn.ops.implementations` selects them.

Each computes the same values and derivatives as the definition, up to rounding.
"""
