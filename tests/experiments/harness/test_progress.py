"""Lines where there is no terminal: step, losses, rate and time left, now and then."""

import pytest

from experiments.harness import progress


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made)
    return made


def test_lines_say_rate_and_time_left_without_the_time_of_compiling(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.show_steps("cnn1d on mnist1d", 10_000) as shown:
        clock.now += 20  # compiles
        shown.advance(50)
        shown.log({"step": 50, "train_loss": [0.5, 0.7], "seconds": 20.0})
        assert capsys.readouterr().err == ""
        clock.now += 5
        shown.advance(1000)
        line = "cnn1d on mnist1d: step 1,050 of 10,000, loss 0.6, 200 steps/s, 0:45 left\n"
        assert capsys.readouterr().err == line
        clock.now += 29
        shown.advance(1000)
        shown.log({"train_loss": [0.25], "validation_loss": [1.0, None], "mfu": 0.4567})
        assert capsys.readouterr().err == ""  # the next one is due after 30 seconds
        clock.now += 6
        shown.advance(950)
        line = (
            "step 3,000 of 10,000, loss 0.25, validation loss nan, MFU 45.7 %, 73.8 steps/s, "
            "1:35 left\n"
        )
        assert capsys.readouterr().err.endswith(line)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7325, "2:02:05")]
)
def test_times(seconds: float, text: str) -> None:
    assert progress._clock(seconds) == text


def test_short_runs_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.show_steps("a", 10) as shown:
        for _ in range(10):
            shown.advance(1)
    assert capsys.readouterr().err == ""
