"""Ablations as text are the functions of `cnn.ablations`; networks are tested with `train`."""

import pytest

from cnn import ablations, layers, models
from cnn.errors import InputError
from experiments.harness.networks import ablation, ablations_by_name


def test_names_and_arguments() -> None:
    model = models.cnn1d()
    for text, expected in {
        "unshare": ablations.unshare(model),
        "unshare:bias=tied:where=0": ablations.unshare(model, where=0, bias="tied"),
        "tile:2": ablations.tile(model, 2),
        "localize:null": ablations.localize(model, None),
        "repad:mode=circular": ablations.repad(model, mode="circular"),
        "dilate:[2]": ablations.dilate(model, (2,)),
    }.items():
        assert ablation(text)(model) == expected
    assert {"share", "densify", "separate", "repool"} < {*ablations_by_name()}
    assert not {"lift", "match", "ablate", "list_layers", "permute_input"} & {*ablations_by_name()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unshared", "unknown ablation 'unshared': did you mean 'unshare'"),
        ("tile", "ablation 'tile' does not fit tile: missing a required argument: 'period'"),
        ("tile:2:3:4:5", "does not fit tile: too many positional arguments"),
        ("unshare:when=0", "does not fit unshare: got an unexpected keyword argument 'when'"),
        ("repool:mean", "mean"),
        ("dilate:two", "two"),
    ],
)
def test_what_does_not_fit_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        ablation(text)(layers.Chain((layers.Conv(2, (3,)), layers.MaxPool(2))))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
