"""Fills the library's batch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from offgridd.engine.port import Part


class RowBatch:
    """The library's batch, filled through numpy: a loop over ctypes costs a hundred times as much."""

    def __init__(self, batch: Any, rows: int, sequences: int) -> None:
        """`batch` is a llama_batch with room for `rows` tokens of one sequence id each."""
        self._rows, self._batch = rows, batch
        self._token, self._pos, self._count, self._logits = (
            np.ctypeslib.as_array(pointer, (rows,))
            for pointer in (self._batch.token, self._batch.pos, self._batch.n_seq_id, self._batch.logits)
        )
        self._count[:] = 1
        ids = (ctypes.c_int32 * sequences)(*range(sequences))  # one int a sequence, which its rows point at
        self._ids, self._address = (
            ids,
            [ctypes.addressof(ids) + i * ctypes.sizeof(ctypes.c_int32) for i in range(sequences)],
        )
        pointers = ctypes.cast(self._batch.seq_id, ctypes.POINTER(ctypes.c_size_t))
        self._sequence = np.ctypeslib.as_array(pointers, (rows,))
        self.count = 0  # rows of the newest batch
        self.last: list[int] = []  # for each part of the newest batch, the index of its last row

    def fill(self, parts: Sequence[Part]) -> Any:
        """The batch that holds the parts, one behind the other."""
        at, self.last = 0, []
        for slot, start, tokens, logits, every in parts:
            end = at + len(tokens)
            if end > self._rows:
                raise ValueError(f"cannot decode {end} rows: {self._rows} is the most")
            self._token[at:end] = tokens
            self._pos[at:end] = np.arange(start, start + len(tokens))
            self._sequence[at:end] = self._address[slot]
            self._logits[at:end] = every
            self._logits[end - 1] = logits or every
            self.last.append(end - 1)
            at = end
        self._batch.n_tokens = self.count = at
        return self._batch
