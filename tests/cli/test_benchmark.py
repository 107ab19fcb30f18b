"""What offgrid benchmark prints."""

from __future__ import annotations

import argparse
import json

import pytest

from offgridd.cli.benchmark import _numbers, _show
from offgridd.cli.main import main


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_history_is_a_list_in_json_however_many_there_are(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    _show([{"id": number} for number in range(count)], "json", list, several=True)
    assert json.loads(capsys.readouterr().out) == [{"id": number} for number in range(count)]


def test_numbers_that_are_none_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert _numbers("0,512") == [0, 512]
    with pytest.raises(argparse.ArgumentTypeError, match="no number"):
        _numbers("1,,2")
    with pytest.raises(SystemExit):
        main(["benchmark", "smol", "--depth", "deep"])
    assert "'deep' is no number" in capsys.readouterr().err
