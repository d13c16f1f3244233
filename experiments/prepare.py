"""Prepare a TFDS data set, once, so that everything else reads it without TensorFlow.

    python -m experiments.prepare fashion_mnist --data-dir data

Downloads the set and writes it as array_record below the data folder; `cnn.data.load` then finds
it by its name. This is the one step that needs TensorFlow (`make install EXTRA=prepare`) and a
network. What was downloaded stays in DATA_DIR/downloads/NAME, which may be deleted afterwards.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tyro

from cnn.data import tfds
from cnn.data.registry import BUILT_IN, data_root
from cnn.errors import InputError, unknown_name
from experiments.harness.cli import run

SECONDS = 5.0  # to wait for an answer before a host counts as out of reach


@dataclass(frozen=True)
class Flags:
    """Which set, and where to."""

    name: tyro.conf.Positional[str]
    """Its name in the TFDS catalogue: fashion_mnist, cifar10, emnist/letters."""
    data_dir: Path | None = field(default=None, kw_only=True)
    """Folder of prepared sets; CNN_DATA_DIR or ~/tensorflow_datasets if not given."""


def main(flags: Flags) -> None:
    """Prepare the set, or say why not. The set's folder appears complete or not at all."""
    root = data_root(flags.data_dir)
    if flags.name in BUILT_IN:
        raise InputError(f"data set {flags.name!r} is built in: it needs no preparation")
    if ready := tfds.folders(root).get(flags.name):
        tfds.open_folder(flags.name, ready)
        print(f"already prepared: {ready}")
        return
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
    """Return TFDS's builder of the set.

    Raises `InputError` for a name that TFDS does not know, or does not download by itself.
    """
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] not in known:
        raise unknown_name("TFDS data set", name, known)
    try:
        builder = tfds.builder(name, data_dir=root)
    except ValueError as error:  # a configuration that the set does not have
        raise InputError(f"TFDS data set {name!r}: {' '.join(str(error).split())}") from error
    if by_hand := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise InputError(f"data set {name!r} is downloaded by hand: {' '.join(by_hand.split())}")
    return builder


def check_network(name: str, urls: list[str]) -> None:
    """Raise `InputError` within seconds where none of the hosts of these URLs answers.

    TFDS itself would try again for minutes. One host is enough because sets list mirrors, too.
    """
    import requests

    def answers(url: str) -> bool:
        try:
            status = requests.head(url, timeout=SECONDS).status_code
        except requests.RequestException:
            return False
        return status not in (502, 503, 504)  # what a proxy says of a host it cannot reach

    one_per_host = {urlsplit(url).netloc: url for url in urls}
    with ThreadPoolExecutor() as pool:
        if one_per_host and not any(pool.map(answers, one_per_host.values())):
            raise InputError(
                f"cannot download {name!r}: no answer from {', '.join(one_per_host)}: "
                "check the network"
            )


def download(builder: Any, folder: Path) -> None:
    """Download, extract and write the set, with a download folder of its own.

    Sets that share one are mixed up without an error where their files have the same names, as
    those of MNIST and Fashion-MNIST have.
    """
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(extract_dir=folder / "extracted", try_download_gcs=False)
    try:
        builder.download_and_prepare(
            download_dir=folder, download_config=config, file_format="array_record"
        )
    except (OSError, tfds.download.DownloadError) as error:
        raise InputError(
            f"cannot prepare {builder.name!r}: {' '.join(str(error).split())[:300]}"
        ) from error


if __name__ == "__main__":
    run(main, Flags, __doc__)
