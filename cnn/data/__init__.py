"""Data sets by name, as arrays in memory, and pure functions from data set to data set."""

from cnn.data.dataset import Dataset, from_images
from cnn.data.registry import load, names
from cnn.data.signals import mnist1d_signals
from cnn.data.split import Split
from cnn.data.transforms import permutation, permute, subset

__all__ = ["Dataset", "Split", "from_images", "load", "mnist1d_signals", "names", "permutation"]
__all__ += ["permute", "subset"]
