"""Train by shard_map and by pmap on 1, 2 and 4 devices and compare, compiled as users compile.

python -m tests.train.maps [norm]
"""

import sys

from cnn.train import fit
from tests.small import assert_close, assert_same, config, model


def main(norm: bool) -> None:
    def states(kind: str, devices: int):
        return fit(config(model=model(norm), map_devices=kind, devices=devices)).states

    one = states("shard_map", 1)
    for devices in (1, 2, 4):
        sharded, mapped = (states(kind, devices) for kind in ("shard_map", "pmap"))
        for a, b, alone in zip(sharded, mapped, one, strict=True):
            assert_same((a.params, a.batch_stats), (b.params, b.batch_stats))
            assert_close((a.params, a.batch_stats), (alone.params, alone.batch_stats), 1e-5)


if __name__ == "__main__":
    main(sys.argv[1:] == ["norm"])
