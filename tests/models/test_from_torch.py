"""`from_torch`: logits equal PyTorch's, and weights that do not fit raise an error."""

from __future__ import annotations

import io
import pickle
import sys
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import models
from cnn.errors import InputError
from cnn.layers import AdaptiveAvgPool, Chain, Conv, ConvLocal, Dense, Flatten, GroupNorm, ReLU
from cnn.models import from_torch, to_torch

Arrays = dict[str, np.ndarray]


# Narrow copies of torchvision's networks, with its names and so its state_dict.


def named(**modules: Any) -> Any:
    from torch import nn

    return nn.Sequential(OrderedDict(modules))


def alexnet_twin(classes: int, part: int) -> Any:
    from torch import nn

    a, b, c, d, hidden = (n // part for n in (64, 192, 384, 256, 4096))
    return named(
        features=nn.Sequential(
            *(nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        ),
        avgpool=nn.AdaptiveAvgPool2d((6, 6)),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(
            *(nn.Dropout(), nn.Linear(d * 36, hidden), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, classes),
        ),
    )


def vgg11_twin(classes: int, part: int, batch_norm: bool) -> Any:
    from torch import nn

    features: list[Any] = []
    c_in = 3
    for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if isinstance(width, str):
            features.append(nn.MaxPool2d(2))
            continue
        c_out = width // part
        features.append(nn.Conv2d(c_in, c_out, 3, padding=1))
        features += [nn.BatchNorm2d(c_out)] * batch_norm + [nn.ReLU()]
        c_in = c_out
    hidden = 4096 // part
    return named(
        features=nn.Sequential(*features),
        avgpool=nn.AdaptiveAvgPool2d((7, 7)),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(
            *(nn.Linear(c_in * 49, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, classes),
        ),
    )


def resnet18_twin(classes: int, part: int) -> Any:
    from torch import nn

    class BasicBlock(nn.Module):
        def __init__(self, c_in: int, c_out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(c_out)
            self.downsample = nn.Sequential()
            if stride > 1:
                projection = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
                self.downsample = nn.Sequential(projection, nn.BatchNorm2d(c_out))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (y + self.downsample(x)).relu()

    a, b, c, d = (n // part for n in (64, 128, 256, 512))
    return named(
        conv1=nn.Conv2d(3, a, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(a),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
        layer1=nn.Sequential(BasicBlock(a, a, 1), BasicBlock(a, a, 1)),
        layer2=nn.Sequential(BasicBlock(a, b, 2), BasicBlock(b, b, 1)),
        layer3=nn.Sequential(BasicBlock(b, c, 2), BasicBlock(c, c, 1)),
        layer4=nn.Sequential(BasicBlock(c, d, 2), BasicBlock(d, d, 1)),
        avgpool=nn.AdaptiveAvgPool2d((1, 1)),
        flatten=nn.Flatten(),
        fc=nn.Linear(d, classes),
    )


def googlenet_twin(classes: int, part: int) -> Any:
    import torch
    from torch import nn

    def unit(c_in: int, c_out: int, window: int, **fields: int) -> Any:
        conv = nn.Conv2d(c_in, c_out, window, bias=False, **fields)
        return named(conv=conv, bn=nn.BatchNorm2d(c_out, eps=0.001), relu=nn.ReLU())

    class Inception(nn.Module):
        def __init__(self, c_in: int, *sizes: int) -> None:
            super().__init__()
            c_in, a, b, c, d, e, f = (n // part for n in (c_in, *sizes))
            pool = nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True)
            self.branch1 = unit(c_in, a, 1)
            self.branch2 = nn.Sequential(unit(c_in, b, 1), unit(b, c, 3, padding=1))
            self.branch3 = nn.Sequential(unit(c_in, d, 1), unit(d, e, 3, padding=1))
            self.branch4 = nn.Sequential(pool, unit(c_in, f, 1))

        def forward(self, x: Any) -> Any:
            branches = (self.branch1, self.branch2, self.branch3, self.branch4)
            return torch.cat([branch(x) for branch in branches], 1)

    def pool(window: int) -> Any:
        return nn.MaxPool2d(window, stride=2, ceil_mode=True)

    return named(
        conv1=unit(3, 64 // part, 7, stride=2, padding=3),
        maxpool1=pool(3),
        conv2=unit(64 // part, 64 // part, 1),
        conv3=unit(64 // part, 192 // part, 3, padding=1),
        maxpool2=pool(3),
        inception3a=Inception(192, 64, 96, 128, 16, 32, 32),
        inception3b=Inception(256, 128, 128, 192, 32, 96, 64),
        maxpool3=pool(3),
        inception4a=Inception(480, 192, 96, 208, 16, 48, 64),
        inception4b=Inception(512, 160, 112, 224, 24, 64, 64),
        inception4c=Inception(512, 128, 128, 256, 24, 64, 64),
        inception4d=Inception(512, 112, 144, 288, 32, 64, 64),
        inception4e=Inception(528, 256, 160, 320, 32, 128, 128),
        maxpool4=pool(2),
        inception5a=Inception(832, 256, 160, 320, 32, 128, 128),
        inception5b=Inception(832, 384, 192, 384, 48, 128, 128),
        avgpool=nn.AdaptiveAvgPool2d((1, 1)),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(0.2),
        fc=nn.Linear(1024 // part, classes),
    )


def random_state(twin: Any) -> Arrays:
    """Return a random state; initial statistics and scales would hide mistakes."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    for module in twin.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias)
    return {key: value.numpy() for key, value in twin.state_dict().items()}


TWINS = {
    "alexnet": (models.alexnet(10, 1 / 8), lambda: alexnet_twin(10, 8), (64, 99)),
    "vgg11": (models.vgg11(10, 1 / 8), lambda: vgg11_twin(10, 8, False), (64, 75)),
    "vgg11_bn": (
        models.vgg11(10, 1 / 8, norm="batch"),
        lambda: vgg11_twin(10, 8, True),
        (64, 75),
    ),
    "googlenet": (
        models.googlenet(10, 1 / 8, torchvision_compatible=True),
        lambda: googlenet_twin(10, 8),
        (64, 99),  # even and odd sizes before the poolings in ceil mode
    ),
    "resnet18": (models.resnet18(10, 1 / 8), lambda: resnet18_twin(10, 8), (64, 75)),
}


@pytest.mark.parametrize("name", TWINS)
def test_logits_are_those_of_pytorch(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the reference here, is not installed")
    model, make_twin, size = TWINS[name]
    twin = make_twin()
    state = random_state(twin)
    if name == "googlenet":  # auxiliary heads, which torchvision saves along
        state |= {"aux1.conv.conv.weight": np.ones((1, 1, 1, 1)), "aux2.fc1.bias": np.ones(1)}
    np.savez(tmp_path / "weights.npz", **state)

    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = twin.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(model.apply)(from_torch(model, tmp_path / "weights.npz"), x)
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * scale
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["googlenet", "resnet18"])
def test_safetensors_of_a_whole_network(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch, the reference here, is not installed")
    safe = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    model, make_twin, _ = TWINS[name]
    state = random_state(make_twin())
    safe.save_file(state, tmp_path / "weights.safetensors")
    variables = from_torch(model, tmp_path / "weights.safetensors")
    same = jax.tree.map(np.array_equal, variables, from_torch(model, state))
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("name", TWINS)
def test_pytorch_loads_what_is_written_for_it(name: str, tmp_path: Path) -> None:
    """Its logits are ours, and reading the file again gives the same variables bit for bit."""
    torch = pytest.importorskip("torch", reason="PyTorch, the reference here, is not installed")
    import safetensors.torch

    model, make_twin, size = TWINS[name]
    twin = make_twin()
    variables = from_torch(model, random_state(make_twin()))
    path = tmp_path / "weights.safetensors"
    models.save(path, model, variables, (*size, 3), state_dict=twin.state_dict())
    twin.load_state_dict(safetensors.torch.load_file(path))
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    with torch.no_grad():
        logits = twin.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    expected = np.asarray(jax.jit(model.apply)(variables, x))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    again, read = models.load(path)
    assert again == model
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, read, variables)))


# The rest needs no PyTorch: a network with few weights.

TINY = Chain(
    (
        Conv(2, (1, 1)),
        ReLU(),
        AdaptiveAvgPool((1, 3)),
        Flatten(),
        Dense(4),
    )
)
WEIGHTS: Arrays = {
    "features.0.weight": np.array([[[[1.0]]], [[[2.0]]]]),  # (o, i, h, w)
    "features.0.bias": np.array([3.0, 4.0]),
    "classifier.0.weight": np.arange(24.0).reshape(4, 6),  # (o, c·h·w)
    "classifier.0.bias": np.array([5.0, 6.0, 7.0, 8.0]),
}


def without(name: str) -> Arrays:
    return {key: value for key, value in WEIGHTS.items() if key != name}


def check_tiny(variables: Any) -> None:
    first, last = variables["params"]["layers_0"], variables["params"]["layers_4"]
    assert first["kernel"].tolist() == [[[[1.0, 2.0]]]]
    assert first["bias"].tolist() == [3.0, 4.0]
    # Torch's inputs are c0w0 c0w1 c0w2 c1w0 c1w1 c1w2, ours c0w0 c1w0 c0w1 c1w1 c0w2 c1w2.
    assert last["kernel"][:, 0].tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    assert last["kernel"][:, 3].tolist() == [18.0, 21.0, 19.0, 22.0, 20.0, 23.0]
    assert last["bias"].tolist() == [5.0, 6.0, 7.0, 8.0]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_tiny_by_hand() -> None:
    check_tiny(from_torch(TINY, WEIGHTS))


def test_back_to_torch_by_hand() -> None:
    """The names, layout and dtypes of the given arrays; what from_torch leaves out is kept."""
    extra = {"aux1.fc.weight": np.ones((2, 2)), "features.1.num_batches_tracked": np.array(7)}
    like = {name: np.zeros_like(array) for name, array in WEIGHTS.items()} | extra
    written = to_torch(TINY, from_torch(TINY, WEIGHTS), like)
    for name, array in {**WEIGHTS, **extra}.items():
        np.testing.assert_array_equal(written[name], array)
        assert written[name].dtype == array.dtype
    variables = from_torch(TINY, WEIGHTS)
    for wrong, message in [
        ({"params": {"layers_0": variables["params"]["layers_0"]}}, "must have params/layers_4/"),
        ({**variables, "params": jax.tree.map(lambda w: w[:1], variables["params"])}, "of shape"),
    ]:
        with pytest.raises(InputError, match=message):
            to_torch(TINY, wrong, like)


def test_the_order_of_saving_does_not_matter() -> None:
    check_tiny(from_torch(TINY, dict(sorted(WEIGHTS.items(), reverse=True))))
    check_tiny(from_torch(TINY, dict(sorted(WEIGHTS.items()))))


def test_layers_are_paired_by_number_not_by_spelling() -> None:
    chain = Chain(tuple(Conv(1, (1, 1), use_bias=False) for _ in range(12)))
    state = {f"features.{i}.weight": np.full((1, 1, 1, 1), float(i)) for i in range(12)}
    params = from_torch(chain, dict(sorted(state.items())))["params"]
    assert [params[f"layers_{i}"]["kernel"].item() for i in range(12)] == list(range(12))


def test_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **WEIGHTS)
    check_tiny(from_torch(TINY, tmp_path / "w.npz"))
    check_tiny(from_torch(TINY, str(tmp_path / "w.npz")))


def test_safetensors(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    path = tmp_path / "w.safetensors"
    numpy.save_file(WEIGHTS, path)
    check_tiny(from_torch(TINY, path))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"w\.safetensors is not readable"):
        from_torch(TINY, path)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pkl", "w"])
def test_pickles_are_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="a pickle is not read because that executes code:"):
        from_torch(TINY, tmp_path / name)


def test_what_unpacks_to_too_much_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts packed arrays alone; the size of others is that of the file."""
    monkeypatch.setattr(sys.modules["cnn.models.from_torch"], "MAX_UNPACKED", 2**20)
    bomb = WEIGHTS | {"features.9.weight": np.zeros(2**20, np.float32)}
    np.savez_compressed(tmp_path / "w.npz", **bomb)
    assert (tmp_path / "w.npz").stat().st_size < 10_000
    with pytest.raises(
        InputError, match=r"w\.npz must unpack to at most 0.* GiB, got 0.00391 GiB: "
    ):
        from_torch(TINY, tmp_path / "w.npz")
    np.savez_compressed(tmp_path / "w.npz", **WEIGHTS)
    check_tiny(from_torch(TINY, tmp_path / "w.npz"))


def test_pickled_arrays_in_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"features.0.weight": np.array([print], dtype=object)})
    with pytest.raises(InputError, match=r"w\.npz is not readable: save it again \(Object arr"):
        from_torch(TINY, tmp_path / "w.npz")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.npz does not exist"):
        from_torch(TINY, tmp_path / "missing.npz")
    np.savez(tmp_path / "w.npz", **WEIGHTS)
    whole = (tmp_path / "w.npz").read_bytes()
    np.save(tmp_path / "one.npy", np.ones(3))
    flipped = whole.replace(np.float64(23.0).tobytes(), np.float64(22.0).tobytes())
    for content in (b"", b"no zip", whole[:-30], (tmp_path / "one.npy").read_bytes(), flipped):
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"w\.npz is not readable"):
            from_torch(TINY, tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("model", "weights", "line"),
    [
        (
            Chain((*TINY.layers[:-1], Dense(7))),
            WEIGHTS,
            "classifier.0.weight has shape (6, 4), channels last, but params/layers_4/kernel needs "
            "(6, 7): give the model the num_classes and width of the weights",
        ),
        (
            Chain((Conv(2, (3, 3)), *TINY.layers[1:])),
            WEIGHTS,
            "features.0.weight has shape (1, 1, 1, 2), channels last, but params/layers_0/kernel "
            "needs (3, 3, 1, 2): give the model the num_classes and width of the weights",
        ),
        (
            TINY,
            without("features.0.bias"),
            "features.0 in state_dict has ['weight'] but layers_0 in the model needs "
            "['bias', 'weight']: build the model that the weights were saved from",
        ),
        (
            TINY,
            WEIGHTS | {"features.0.running_var": np.ones(2)},
            "features.0 in state_dict has ['bias', 'running_var', 'weight'] but layers_0 in the "
            "model needs ['bias', 'weight']: build the model that the weights were saved from",
        ),
        (
            TINY,
            WEIGHTS | {"extra.weight": np.ones(2)},
            "state_dict has 3 layers with weights but the model has 2: build the model that the "
            "weights were saved from",
        ),
        (
            Chain((*TINY.layers[:2], GroupNorm(1), *TINY.layers[2:])),
            WEIGHTS,
            "state_dict has 2 layers with weights but the model has 3: build the model that the "
            "weights were saved from",
        ),
        (
            Chain((*TINY.layers[:3], ConvLocal(2, 1), *TINY.layers[3:])),
            WEIGHTS,
            "params/layers_3/bias has no counterpart in torchvision: leave that layer out",
        ),
        (
            TINY,
            {},
            "state_dict must start with a convolution, under torchvision's names",
        ),
        (
            TINY,
            {key: value for key, value in WEIGHTS.items() if "classifier" in key},
            "state_dict must start with a convolution, under torchvision's names",
        ),
    ],
)
def test_weights_that_do_not_fit(model: Chain, weights: Arrays, line: str) -> None:
    with pytest.raises(InputError) as error:
        from_torch(model, weights)
    assert str(error.value) == line


def refused(state_dict: Any) -> str:
    with pytest.raises(InputError) as error:
        from_torch(TINY, state_dict)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", [3, None, [WEIGHTS]], ids=str)
def test_what_is_no_state_dict(value: Any) -> None:
    kind = type(value).__name__
    assert refused(value) == f"state_dict must be a file or arrays by name, got a {kind}"


@pytest.mark.parametrize(
    "value", [b"x", "1", None, [[1], [1, 2]], np.ones(2, bool), np.ones(2, complex), {}], ids=str
)
def test_what_is_no_array_of_real_numbers(value: Any) -> None:
    line = "state_dict must hold arrays of real numbers under printable names, got "
    assert refused(WEIGHTS | {"features.0.bias": value}).startswith(line)
    assert refused({**WEIGHTS, 3: np.ones(2)}).startswith(f"{line}ndarray under 3")
    assert refused(WEIGHTS | {"a\nb.bias": np.ones(2)}).startswith(
        f"{line}ndarray under 'a\\nb.bias'"
    )


def test_a_tensor_with_a_gradient() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    line = refused(WEIGHTS | {"features.0.bias": torch.ones(2, requires_grad=True)})
    assert "got Tensor under 'features.0.bias': save arrays, as in {k: v.detach()" in line


def test_arrays_without_entries() -> None:
    line = refused(WEIGHTS | {"features.0.weight": np.ones((0, 0, 1, 1))})
    assert line == "state_dict must start with a convolution, under torchvision's names"
    convolution = Chain((Conv(2, (1, 1)), AdaptiveAvgPool(1), Dense(4)))
    with pytest.raises(InputError, match=r"classifier\.0\.weight has shape \(0, 4\)"):
        from_torch(convolution, WEIGHTS | {"classifier.0.weight": np.ones((4, 0))})


def test_names_that_are_no_path(tmp_path: Path) -> None:
    for name in ("a" * 300, "\0"):
        refused(tmp_path / f"{name}.npz")


def npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "content",
    [
        npy(HEADER % "(1000000000000000,)") + b"1",  # 8 PB
        npy(HEADER % "(-1,)"),
        npy(HEADER % "'x'"),
        npy("{" * 100),
        npy("{'descr': 'O', 'fortran_order': False, 'shape': (1,)}") + pickle.dumps([print]),
        b"cos\nsystem\n(S'false'\ntR.",  # a pickle that would run a command
        b"",
    ],
    ids=range(7),
)
def test_hostile_members_of_an_archive(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **WEIGHTS)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("classifier.2.weight.npy", content)
    assert refused(path)


@given(st.data())
def test_bytes_that_are_changed_in_a_file(data: st.DataObject) -> None:
    """Whatever is read has the same weights, or is refused. The names have no checksum."""
    with io.BytesIO() as file:
        np.savez(file, **WEIGHTS)
        content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.npz"
        path.write_bytes(content)
        try:
            check_tiny(from_torch(TINY, path))
        except InputError as error:
            assert "\n" not in str(error)


NAMES = st.sampled_from(
    [
        *WEIGHTS,
        "",
        ".",
        "weight",
        "features.0.weight.weight",
        "features.¹.bias",
        "aux",
        "\n.weight",
        "\ud800",
    ]
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6]), max_size=5).map(tuple)
TYPES = st.sampled_from(["float64", "float16", "int8", "bool", "complex64", "O", "U3", "M8[s]"])


@given(st.dictionaries(NAMES, st.builds(np.zeros, SHAPES, TYPES), min_size=1, max_size=3))
def test_arrays_of_other_names_shapes_and_types(others: Arrays) -> None:
    expected = {key: value.shape for key, value in WEIGHTS.items()}
    try:
        from_torch(TINY, WEIGHTS | others)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        kept = {key: value.shape for key, value in others.items() if not key.startswith("aux")}
        assert kept.items() <= expected.items()
        assert all(others[key].dtype.kind in "fi" for key in kept)
