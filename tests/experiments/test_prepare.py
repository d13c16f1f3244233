"""Preparing a data set, and its messages when TensorFlow or the network is missing."""

from __future__ import annotations

import http.server
import importlib.util
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnn.data import tfds
from cnn.errors import InputError
from experiments import prepare
from experiments.prepare import Flags


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[str]:
    """A host that answers everything with 404."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Empty) as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{host.server_port}/file"
        host.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> str:
    """A host that refuses: the port was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file"


@pytest.fixture
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as `prepare` can see, TensorFlow is installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


class Builder:
    """Stands in for a TFDS builder, and writes down how it was called."""

    name, data_dir = "made_up", "made_up/1.0.0"

    def __init__(self, urls: list[str], error: Exception | None = None) -> None:
        self.url_infos, self.error = dict.fromkeys(urls), error
        self.info = SimpleNamespace()
        self.called: dict[str, Any] = {}

    def download_and_prepare(self, **arguments: Any) -> None:
        self.called = arguments
        if self.error is not None:
            raise self.error


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tensorflow: None) -> Any:
    """Makes `prepare` use this builder."""

    def use(builder: Builder) -> None:
        monkeypatch.setattr(prepare, "check_known", lambda name: None)
        monkeypatch.setattr(prepare, "find_builder", lambda name, root: builder)
        monkeypatch.setattr(tfds, "image_and_label", lambda name, info: None)

    return use


def test_help_needs_no_slow_import() -> None:
    shown = command("-m", "experiments.prepare", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--data-dir" in shown.stdout
    slow = "{'jax', 'tensorflow', 'tensorflow_datasets', 'matplotlib', 'sklearn'}"
    code = f"import sys, experiments.prepare; print(*{slow} & set(sys.modules))"
    assert command("-c", code).stdout == "\n"


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    refused = command("-m", "experiments.prepare", "digits")
    assert refused.returncode == 2
    assert refused.stderr == "error: data set 'digits' is built in: it needs no preparation\n"
    assert refused.stdout == ""


def test_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"make install EXTRA=prepare.*'cnn-biases\[prepare\]'"):
        prepare.main(Flags("mnist", data_dir=tmp_path))
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        prepare.main(Flags("mnsit", data_dir=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnsit", "did you mean 'mnist'"),
        ("zzzz", "TFDS has none with a name like it"),
        ("emnist", "give one of emnist/byclass, "),
        ("emnist/leters", "did you mean 'letters'"),
        ("imdb_reviews/plain_text", "not for image classification"),
        ("imagenet2012", "downloaded by hand"),
    ],
)
def test_sets_that_cannot_be_prepared(
    tmp_path: Path, tensorflow: None, name: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        prepare.main(Flags(name, data_dir=tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_a_network_it_fails_at_once_and_writes_nothing(
    tmp_path: Path, use: Any, nobody: str
) -> None:
    builder = Builder([nobody])
    use(builder)
    with pytest.raises(InputError, match=r"no answer from 127\.0\.0\.1:\d+: check the network"):
        prepare.main(Flags("made_up", data_dir=tmp_path))
    assert not builder.called
    assert not list(tmp_path.iterdir())


def test_one_host_that_answers_is_enough(server: str, nobody: str) -> None:
    prepare.check_network("made_up", [nobody, server])
    prepare.check_network("made_up", [])  # nothing to download


def test_every_set_has_a_download_folder_of_its_own(
    tmp_path: Path, use: Any, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders: list[Path] = []
    for name in ("one", "two"):
        builder = Builder([server])
        use(builder)
        prepare.main(Flags(name, data_dir=tmp_path))
        config = builder.called["download_config"]
        folders += [Path(builder.called["download_dir"]), Path(config.extract_dir)]
        assert builder.called["file_format"] == "array_record"
        assert not config.try_download_gcs
    assert len(set(folders)) == 4
    assert all(tmp_path in folder.parents for folder in folders)
    assert "prepared: made_up/1.0.0" in capsys.readouterr().out


def test_a_download_that_fails_is_one_line(tmp_path: Path, use: Any, server: str) -> None:
    use(Builder([server], OSError("no space\nleft on device")))
    with pytest.raises(InputError, match=r"^cannot prepare 'made_up': no space left on device$"):
        prepare.main(Flags("made_up", data_dir=tmp_path))


def test_what_is_prepared_already_is_left_alone(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, folder = next(iter(tfds.prepared(data_dir).items()))
    prepare.main(Flags(name, data_dir=data_dir))
    assert capsys.readouterr().out == f"already prepared: {folder}\n"
