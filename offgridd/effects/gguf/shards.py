"""Makes one model's facts of those of its shards; used by `reader`. It must trust no count that a file declares."""

from __future__ import annotations

from collections.abc import Sequence

from offgridd.effects.gguf.types import SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, Facts, invalid, show


def join(parts: Sequence[Facts]) -> Facts:
    """The facts of the whole; the first shard's keys are the model's. Raises GgufError(InvalidModel)."""
    first = parts[0]
    if len(parts) == 1:
        return first
    first.shards = len(parts)
    for number, part in enumerate(parts):
        _check_place(part, number, len(parts))
        if part is not first:
            _add(first, part)
    declared = first.values.get(SPLIT_TENSORS)
    if declared != first.tensor_count:
        raise invalid(f"its shards have {first.tensor_count} tensors, {SPLIT_TENSORS} says {declared}")
    return first


def _check_place(part: Facts, number: int, count: int) -> None:
    says = part.values.get(SPLIT_NO), part.values.get(SPLIT_COUNT)
    if says != (number, count) and (number == 0 or says != (number, None)):
        raise invalid(
            f"what is named shard {number + 1} of {count} says it is number {says[0]}, counted from 0, of {says[1]}"
        )


def _add(whole: Facts, part: Facts) -> None:
    if twice := whole.names & part.names:
        raise invalid(f"two of its shards have the tensor {show(min(twice))}")
    whole.names |= part.names
    whole.tensor_count += part.tensor_count
    whole.tensor_bytes += part.tensor_bytes
    for mine, other in ((whole.multiplied, part.multiplied), (whole.embedding, part.embedding)):
        for kind, size in other.items():
            mine[kind] = mine.get(kind, 0) + size
    whole.own_output = whole.own_output or part.own_output
    whole.classifier = whole.classifier or part.classifier
    whole.empty_tensor = whole.empty_tensor or part.empty_tensor
    whole.embedding_row = part.embedding_row if whole.embedding_row is None else whole.embedding_row
