"""Log lines: one record is one line, whoever tries to make more of it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from offgridd.effects.logs import Journal, Json, Text, in_journal

EVIL = 'a"model\n<3>{"level":"ERROR"}\x1b[31m\u202e'


def record(message: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("offgridd", level, __file__, 1, "model %s", (message,), None)


@pytest.mark.parametrize("kind", [Text, Journal, Json])
def test_nothing_makes_a_second_line_of_a_record(kind: type[logging.Formatter]) -> None:
    text = kind().format(record(EVIL))
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    assert "ERROR" in text, "it is shown, but does nothing"


def test_the_journal_gets_the_level_of_every_line() -> None:
    assert Journal().format(record("x")) == "<4>model x"
    try:
        raise ValueError("a\nb")
    except ValueError:
        failed = record("x", logging.ERROR)
        failed.exc_info = sys.exc_info()
    lines = Journal().format(failed).splitlines()
    assert lines[0] == "<3>model x"
    assert all(line.startswith("<3>") for line in lines)
    assert "b" in lines[-1]


def test_json_is_an_object_a_line() -> None:
    found = json.loads(Json().format(record(EVIL)))
    assert (found["level"], found["logger"], found["message"]) == ("warning", "offgridd", f"model {EVIL}")


def test_the_journal_is_told_by_its_stream() -> None:
    code = "from offgridd.effects.logs import in_journal; import os; print(in_journal(os.environ))"
    read, write = os.pipe()
    found = os.fstat(write)
    try:
        for stream, said in ((f"{found.st_dev}:{found.st_ino}", "True"), ("1:2", "False"), ("", "False")):
            env = {**os.environ, "JOURNAL_STREAM": stream}
            done = subprocess.run(
                [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=write, text=True
            )
            assert done.stdout.strip() == said
    finally:
        os.close(read)
        os.close(write)
    assert not in_journal({})
