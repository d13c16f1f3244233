"""Compare training by shard_map and pmap on one and several devices, compiled as by users.

python -m tests.train.maps norm 4
python -m tests.train.maps plain 1 2 4
"""

import sys

from cnn.train import fit
from tests.small import assert_close, assert_same, config, model


def main(norm: bool, counts: list[int]) -> None:
    def states(kind: str, devices: int):
        return fit(config(model=model(norm), map_devices=kind, devices=devices)).states

    one = states("shard_map", 1)
    for devices in counts:
        sharded = one if devices == 1 else states("shard_map", devices)
        mapped = states("pmap", devices)
        for a, b, alone in zip(sharded, mapped, one, strict=True):
            assert_same((a.params, a.batch_stats), (b.params, b.batch_stats))
            assert_close((a.params, a.batch_stats), (alone.params, alone.batch_stats), 1e-5)


if __name__ == "__main__":
    main(sys.argv[1] == "norm", [int(count) for count in sys.argv[2:]])
