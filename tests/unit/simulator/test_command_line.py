"""What `gateway simulate` says before it starts."""

import pytest

from gateway import cli


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of the test's own: the default is ./keys."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--listen", "8089"], "argument --listen: must be HOST:PORT"),
        (["--control", "127.0.0.1:x"], "argument --control: must be HOST:PORT"),
        (["--slow", "-1"], "argument --slow: must be a number of seconds above 0"),
        (["--slow", "inf"], "argument --slow: must be a number of seconds above 0"),
        (["--slow", "long"], "argument --slow: must be a number of seconds above 0"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_a_wrong_option_is_wrong_usage(folder, capsys, options, problem):
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", *options])

    assert caught.value.code == 2
    assert problem in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_help_says_what_it_is_and_how_to_order_a_fault(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", "--help"])

    text = capsys.readouterr().out
    assert caught.value.code == 0
    for part in ("Not for production", "?simulate=", "simulate:", "/fault", "--json"):
        assert part in text


def test_half_of_the_keys_is_one_clear_line(folder, capsys):
    ring = folder / "keys" / "hk-sandbox"
    ring.mkdir(parents=True)
    (ring / "keyring.yaml").touch()

    status = cli.main(["simulate"])

    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1
    assert line.startswith("gateway: keys/simulator/simulator.yaml is missing")
