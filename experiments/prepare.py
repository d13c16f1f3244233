"""Download a TFDS data set and convert it, so that everything else reads it without TensorFlow.

    python -m experiments.prepare fashion_mnist --data-dir data

`cnn.data.load` then finds it by its name. This is the only step that needs a network and TensorFlow
(`make install EXTRA=prepare`). DATA_DIR/downloads/NAME may be deleted afterwards.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tyro
from etils import epy

from cnn.data import tfds
from cnn.data.catalogue import check_known
from cnn.data.registry import BUILT_IN, data_root
from cnn.errors import InputError
from experiments.harness.cli import run

with epy.lazy_imports():  # slow to import, and not needed for --help
    import requests
    import tensorflow_datasets

TIMEOUT = 5.0  # seconds to wait for a host to answer


@dataclass(frozen=True)
class Flags:
    """Which set to prepare, and where."""

    name: tyro.conf.Positional[str]
    """Name in the TFDS catalogue: fashion_mnist, cifar10, emnist/letters."""
    data_dir: Path | None = field(default=None, kw_only=True)
    """Folder of prepared sets; by default CNN_DATA_DIR or ~/tensorflow_datasets."""


def main(flags: Flags) -> None:
    """Prepare the set. Its folder appears complete or not at all."""
    root = data_root(flags.data_dir)
    if not isinstance(root, Path):
        raise InputError(
            f"data_dir must be in a file system, got '{root}': copy the set there then"
        )
    if flags.name in BUILT_IN:
        raise InputError(f"data set {flags.name!r} is built in: it needs no preparation")
    if ready := tfds.prepared(root).get(flags.name):
        tfds.open_folder(flags.name, ready)
        print(f"already prepared: {ready}")
        return
    check_known(flags.name)
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            "preparing a data set needs TensorFlow (reading it does not): "
            "make install EXTRA=prepare, or pip install 'cnn-biases[prepare]'"
        )
    builder = find_builder(flags.name, root)
    tfds.image_and_label(flags.name, builder.info)
    check_network(flags.name, list(builder.url_infos or ()))
    download(builder, root / "downloads" / flags.name)
    print(f"prepared: {builder.data_dir}")


def find_builder(name: str, root: Path) -> Any:
    """Return the TFDS builder of the set.

    Raises:
        InputError: If it is downloaded by hand.
    """
    builder = tensorflow_datasets.builder(name, data_dir=root)
    if manual := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise InputError(f"data set {name!r} is downloaded by hand: {' '.join(manual.split())}")
    return builder


def check_network(name: str, urls: list[str]) -> None:
    """Raise `InputError` within seconds if none of the hosts of these URLs answers.

    TFDS itself would retry for minutes. One host is enough, because some URLs are mirrors.
    """

    def answers(url: str) -> bool:
        try:
            status = requests.head(url, timeout=TIMEOUT).status_code
        except requests.RequestException:
            return False
        return status not in (502, 503, 504)  # a proxy that cannot reach the host

    one_per_host = {urlsplit(url).netloc: url for url in urls}
    with ThreadPoolExecutor() as pool:
        if one_per_host and not any(pool.map(answers, one_per_host.values())):
            raise InputError(
                f"cannot download {name!r}: no answer from {', '.join(one_per_host)}: "
                "check the network"
            )


def download(builder: Any, folder: Path) -> None:
    """Download and convert the set, with a download folder of its own.

    In a shared folder TFDS silently mixes up sets whose files have the same names, such as MNIST
    and Fashion-MNIST.
    """
    config = tensorflow_datasets.download.DownloadConfig(
        extract_dir=folder / "extracted", try_download_gcs=False
    )
    try:
        builder.download_and_prepare(
            download_dir=folder, download_config=config, file_format="array_record"
        )
    except (OSError, tensorflow_datasets.download.DownloadError) as error:
        raise InputError(
            f"cannot prepare {builder.name!r}: {' '.join(str(error).split())[:300]}"
        ) from error


if __name__ == "__main__":
    run(main, Flags, __doc__)
