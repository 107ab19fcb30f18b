"""POST /v1/benchmarks: records of other machines, or of an earlier life of this one; all of them or none."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import anyio
import anyio.to_thread
import msgspec
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.core.errors import RequestRefused
from offgridd.effects.benchformat import checked
from offgridd.effects.benchrecords import Row

MOST_BYTES, MOST_LINES, MOST_SAID = 16 << 20, 10_000, 5  # the last: bad lines that are told of
MOST_RECORD = 4 << 20  # bytes of one line: a list may have many of them in memory at once
_PLACE = re.compile(r"line 1 column ([0-9]+) \(char [0-9]+\)")  # of json: the line is ours to count


def add_benchmark_import(app: Quart, ctx: Context) -> None:
    @app.post("/v1/benchmarks")
    async def import_benchmarks() -> Response:
        data = await _read()

        def work() -> dict[str, int]:
            taken = ctx.measured.take(records(data))
            return {"added": taken.added, "known": taken.known}

        try:
            return answer(await anyio.to_thread.run_sync(work))
        except OSError as error:
            text = f"cannot keep the records: {error.strerror}; make room, then try again"
            raise RequestRefused(503, "not_kept", text) from None


async def _read() -> bytes:
    """The present request's body, which may be larger than others. Raises RequestRefused."""
    if (request.content_type or "").partition(";")[0].strip().lower() != "application/x-ndjson":
        text = "cannot read the request: send lines of JSON as application/x-ndjson"
        raise RequestRefused(415, "unsupported_media_type", text)
    data = bytearray()
    with anyio.move_on_after(body.PATIENCE):
        async for part in request.body:
            data += part
            if len(data) > MOST_BYTES:
                text = f"cannot import more than {MOST_BYTES >> 20} MiB at once; split the file by lines"
                raise RequestRefused(413, "too_large", text)
        return bytes(data)
    raise RequestRefused(408, "timeout", f"cannot read the request: it took longer than {body.PATIENCE:g} s")


def records(data: bytes) -> Sequence[Row]:
    """One of each line; lines with nothing in them do not count. Raises RequestRefused naming those that are bad."""
    found: dict[str, Row] = {}
    wrong: list[str] = []
    for number, line in enumerate(io.BytesIO(data), 1):
        if number > MOST_LINES:
            wrong.append(f"line {number}: {MOST_LINES} lines are the most; split the file")
        if len(wrong) > MOST_SAID or number > MOST_LINES:
            break
        if line.strip():
            try:
                row = _row(line)
                found[row.uid] = row
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
    if wrong:
        more = ["and more"] if len(wrong) > MOST_SAID else []
        text = f"cannot import, and have kept nothing: {'; '.join(wrong[:MOST_SAID] + more)}"
        raise RequestRefused(400, "invalid_records", text)
    if not found:
        raise RequestRefused(400, "invalid_records", "cannot import: there is no record in it")
    return list(found.values())


def _row(line: bytes) -> Row:
    """Raises ValueError."""
    if len(line) > MOST_RECORD:
        raise ValueError(f"a record has at most {MOST_RECORD >> 20} MiB")
    try:
        record = checked(body.parse(line))
    except RequestRefused as error:
        text = error.message.removeprefix("cannot read the request: ")
        raise ValueError(_PLACE.sub(r"column \1", text)) from None
    text = msgspec.json.encode(record).decode()
    return Row(record["model"], record["load_key"], float(record["started"]), record["uid"], text)
