"""Data sets by name, folder or file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cnn.buckets import BucketPath, bucket_path
from cnn.data import bucket, builtin, huggingface, npz, tfds
from cnn.data.catalogue import check_known
from cnn.data.dataset import Dataset
from cnn.errors import InputError

BUILT_IN = {
    "digits": builtin.load_digits,
    "mnist1d": builtin.load_mnist1d,
    "mnist1d-50k": builtin.load_mnist1d_50k,
}


def load(
    name: str,
    data_dir: str | Path | BucketPath | None = None,
    size: Sequence[int] | None = None,
    channels: int | None = None,
) -> Dataset:
    """Return the data set of this name. Nothing is downloaded, and no code of a set is run.

    Args:
        name: One of

            - `mnist1d`, `mnist1d-50k` (with 50,000 new test signals) or `digits`, built in;
            - an image-classification set that TFDS has prepared in `data_dir`, such as
              `fashion_mnist` or `emnist/letters` (`cnn.data.tfds` says which ones can be read);
            - `folder:PATH`, a folder with a folder of images for each class
              (`Dataset.from_folder`);
            - a path that ends in `.npz`, with arrays `x` and `y` (`cnn.data.npz`);
            - `hf:PATH`, a set that `datasets` of Hugging Face has saved (`cnn.data.huggingface`).
        data_dir: Folder of TFDS sets, by default the environment variable `CNN_DATA_DIR`, or
            `~/tensorflow_datasets`. Of a bucket (gs://, s3://) the set is first copied to this
            machine (`cnn.data.bucket`).
        size: Height and width to which whole images are resized, for sets of TFDS, Hugging Face
            and folders.
        channels: Channels of the images, from 1 to 4, for the same sets.

    Raises:
        InputError: If there is no set of this name, or it cannot be read.
    """
    kind, _, path = name.partition(":")
    if kind in ("folder", "hf") and not path:
        raise InputError(f"data set {name!r} must name a folder: {kind}:PATH")
    if kind == "folder":
        return Dataset.from_folder(path, size, channels)
    if kind == "hf":
        return huggingface.load(path, size, channels)
    folders = {} if name in BUILT_IN else prepared(data_root(data_dir))
    if name in folders:
        folder = folders[name]
        local = bucket.local_copy(folder) if isinstance(folder, BucketPath) else folder
        return tfds.load(name, local, size, channels)
    is_file = name.endswith(".npz")
    if name not in BUILT_IN and not is_file:
        raise _not_found(name, data_root(data_dir), folders)
    if size is not None or channels is not None:
        raise InputError(
            f"size and channels are for images in files, and data set {name!r} holds arrays: leave "
            "them out"
        )
    return npz.load(name) if is_file else BUILT_IN[name]()


def names(data_dir: str | Path | BucketPath | None = None) -> list[str]:
    """Return the names that `load` accepts: the built-in sets and those prepared in `data_dir`."""
    return sorted({*BUILT_IN, *prepared(data_root(data_dir))})


def prepared(root: Path | BucketPath) -> Mapping[str, Path | BucketPath]:
    """Return the name and newest folder of every set that TFDS has prepared in `root`."""
    return bucket.prepared(root) if isinstance(root, BucketPath) else tfds.prepared(root)


def data_root(data_dir: str | Path | BucketPath | None) -> Path | BucketPath:
    """Return the folder of prepared sets: `data_dir`, `CNN_DATA_DIR`, or the default of TFDS."""
    given = str(data_dir or os.environ.get("CNN_DATA_DIR") or "~/tensorflow_datasets")
    if in_bucket := bucket_path(given):
        return in_bucket
    folder = Path(given)
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise InputError(
            f"data_dir must not begin with ~ without a home folder, got {str(folder)!r}: give "
            "data_dir or CNN_DATA_DIR in full"
        ) from error


def _not_found(name: str, root: Path | BucketPath, prepared: Iterable[str]) -> InputError:
    """Return the error for a name that is not found: it is a path, unknown, or not prepared."""
    if os.path.isdir(name):
        return InputError(f"data set {name!r} is a folder: give folder:{name}, or hf:{name}")
    is_missing = isinstance(root, Path) and not root.is_dir()
    where = f"{root} (no folder)" if is_missing else f"{root}"
    try:
        check_known(name, [*BUILT_IN, *prepared])
    except InputError as error:
        here = ", ".join([*BUILT_IN, *prepared])
        return InputError(
            f"{error} (built in, or prepared in {where}: {here}; or folder:PATH, FILE.npz, hf:PATH)"
        )
    in_bucket = isinstance(root, BucketPath)
    folder, then = (
        ("FOLDER", ", and copy FOLDER there") if in_bucket else (shlex.quote(f"{root}"), "")
    )
    return InputError(
        f"data set {name!r} is not prepared in {where}: prepare it with "
        f"python -m experiments.prepare {shlex.quote(name)} --data-dir {folder}{then}"
    )
