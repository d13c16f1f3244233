"""Axes: which points a sweep has, and the folders of the points."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from cnn.errors import InputError
from experiments import train
from experiments.harness import axes
from experiments.harness.axes import Axis, Range

HINTS = get_type_hints(train.Flags)


def at(names: list[str], point: tuple[str, ...], **given: object) -> train.Flags:
    flags = train.Flags(model="mlp", data="digits", **given)  # type: ignore[arg-type]
    return axes.at_point(flags, HINTS, names, point)


def test_a_grid_is_all_combinations_in_order() -> None:
    found = axes.parse(["lr=1e-3,1e-2", "model=mlp,logistic", "clip-norm=1,None,1"], HINTS)
    assert [axis.name for axis in found] == ["lr", "model", "clip_norm"]
    points = axes.grid(found)
    assert points[:3] == [
        ("1e-3", "mlp", "1"),
        ("1e-3", "mlp", "None"),
        ("1e-3", "logistic", "1"),
    ]
    assert len(points) == 8


def test_values_have_the_types_of_the_flags() -> None:
    names = ["lr", "clip_norm", "model", "size", "augment", "metrics", "optimizer", "ablate"]
    point = ("1e-2", "None", "logistic", "8 9", "crop flip", "top-5", "sgd", "unshare tile:2")
    here = at(names, point, batch_size=32)
    assert (here.lr, here.clip_norm, here.model, here.batch_size) == (1e-2, None, "logistic", 32)
    assert (here.size, here.augment, here.metrics) == ((8, 9), ("crop", "flip"), ("top-5",))
    assert (here.optimizer, here.ablate) == ("sgd", ("unshare", "tile:2"))
    assert at(["ablate"], ("none",), ablate=("unshare",)).ablate == ()


def test_an_argument_is_an_axis_beside_the_others() -> None:
    (axis,) = axes.parse(["model-args.window=[3,3],[5,5]"], HINTS)
    assert axis == Axis("model_args.window", ("[3,3]", "[5,5]"))
    names = [axis.name, "model_args.width", "optimizer_args.b1"]
    here = at(names, ("[5,5]", "8", "0.9"), model_args=("width=4", "norm=group"))
    assert here.model_args == ("norm=group", "window=[5,5]", "width=8")
    assert here.optimizer_args == ("b1=0.9",)


def test_a_range_is_of_whole_numbers_if_both_ends_are() -> None:
    texts = ["lr=1e-4..1e-1:log", "steps=10..20", "weight-decay=0..0.5", "data=../a..b,x"]
    found = axes.parse(texts, HINTS)
    assert [axis.values for axis in found] == [
        Range(1e-4, 1e-1, log=True),
        Range(10, 20),
        Range(0, 0.5),
        ("../a..b", "x"),
    ]
    assert isinstance(found[1].ends[0], str) and found[1].ends == ("10", "20")
    assert axes.corners(found[:2]) == [("0.0001", "10"), ("0.1", "10"), ("0.0001", "20")]
    with pytest.raises(InputError, match=r"over lr is a range, which a grid cannot list: give A,B"):
        axes.grid(found)


def test_folders_are_named_by_their_values() -> None:
    names = ["lr", "model"]
    assert axes.folder_name(names, ("1e-3", "mlp")) == "lr=1e-3,model=mlp"
    assert axes.folder_name(["ablate"], ("tile:2",)) == "ablate=tile:2"


def test_names_that_a_folder_cannot_have_are_changed_and_stay_different() -> None:
    values = ["a/b", "a?b", "a*b", "a-b", "a[b", "a b", "a\nb", "ä-b", "x" * 300, "x" * 301]
    folders = [axes.folder_name(["model"], (value,)) for value in values]
    assert len(set(folders)) == len(values)
    for folder in folders:
        assert not set("/*?[ \n") & set(folder)
        assert folder.startswith("model=")
        assert len(folder.encode()) < 150
    assert folders[3] == "model=a-b"
    # No unchanged name has the sign that stands before a hash.
    imitation = axes.folder_name(["model"], (folders[0].removeprefix("model="),))
    assert imitation not in folders


BAD = {
    "nothing": ([], "over is missing: give --over NAME=A,B,C"),
    "name": (["rate=1,2"], "unknown setting 'rate'"),
    "near": (["lrr=1,2"], "unknown setting 'lrr': did you mean 'lr'"),
    "empty": (["lr=1,,2"], "over must be NAME=A,B,C with each name once, got 'lr=1,,2'"),
    "no values": (["lr"], "each name once, got 'lr'"),
    "twice": (["lr=1", "lr=2"], "each name once, got 'lr=2'"),
    "of a number": (["lr.x=1"], "unknown setting 'lr.x'"),
    "no argument": (["model_args.=1,2"], "over model_args. must name an argument: model_args.w"),
    "in part": (
        ["model_args=a=1", "model_args.b=1"],
        "over varies model_args.b and all of model_args: give one",
    ),
    "half": (["lr=1e-3..x"], "over lr must be a range LOW..HIGH of two numbers"),
    "falling": (["lr=1..0.1"], "the smaller first, or LOW..HIGH:log of positive"),
    "log of zero": (["lr=0..1:log"], "positive ones, got '0..1:log'"),
    "endless": (["lr=1..inf"], "of two numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_axes_are_named(name: str) -> None:
    texts, message = BAD[name]
    with pytest.raises(InputError) as error:
        axes.parse(texts, HINTS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_values_are_named() -> None:
    for field, text in (("steps", "1.5"), ("augment", "crops"), ("lr", "x"), ("size", "3")):
        with pytest.raises(InputError, match=f"over {field} cannot be '{text}': see --help"):
            at([field], (text,))
