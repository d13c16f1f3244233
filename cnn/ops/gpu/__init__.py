"""Implementations of operations that were measured to be faster than `lax` on a GPU.

`cnn.ops.implementations` chooses among them. Others import only from there.
"""
