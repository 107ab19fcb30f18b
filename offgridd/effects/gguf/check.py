"""Judges whether what a sound header declares can be a language model; called by `reader` when the walk is done.

It must never refuse what it does not know (an architecture, a tokenizer, a missing key): the engine judges those, in a
process that may die of it. So it only looks at what every architecture means alike.
"""

from __future__ import annotations

import re

from offgridd.core.observed import ModelHeader
from offgridd.effects.gguf.shape import shape_of
from offgridd.effects.gguf.types import (
    ARCHITECTURE,
    INVALID,
    SPLIT_COUNT,
    SPLIT_NO,
    Array,
    Facts,
    GgufError,
    Kind,
    invalid,
    show,
)

_INT32 = (1 << 31) - 1  # the engine keeps lengths in 32 bits and reads larger ones as negative
_MOST_BLOCKS = 4_096  # the deepest models have about 130
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_OTHER_KINDS = {
    "adapter": "an adapter (LoRA)",
    "mmproj": "an image or sound projector (mmproj)",
    "imatrix": "an importance matrix (imatrix)",
}
_TOKENLESS = ("none", "no_vocab")


def check_model(facts: Facts) -> ModelHeader:
    """The facts in the form that the rest of the program uses; raises GgufError(InvalidModel)."""
    architecture = _architecture(facts)
    _check_whole_model(facts, architecture)
    embedding = _number(facts, f"{architecture}.embedding_length", 1, _INT32)
    _check_embedding(facts, embedding, architecture)
    name, file_type = facts.values.get("general.name"), facts.values.get("general.file_type")
    return ModelHeader(
        architecture=architecture,
        name=name if isinstance(name, str) else "",
        file_type=file_type if type(file_type) is int else None,
        context_length=_number(facts, f"{architecture}.context_length", 0, _INT32),
        block_count=_number(facts, f"{architecture}.block_count", 1, _MOST_BLOCKS),
        embedding_length=embedding,
        head_count=_heads(facts, architecture),
        vocab_size=_vocabulary(facts, architecture),
        tensor_count=facts.tensor_count,
        tensor_bytes=facts.tensor_bytes,
        has_chat_template=facts.has_chat_template,
        shape=shape_of(facts, architecture),
    )


def check_adapter(facts: Facts) -> ModelHeader:
    """The same of an adapter, which has neither blocks nor a vocabulary of its own. Whose it is the engine finds out.

    Raises GgufError(InvalidModel) where it is no LoRA adapter.
    """
    architecture = _architecture(facts)
    kind, what = facts.values.get("general.type"), facts.values.get("adapter.type")
    if kind != "adapter" or what != "lora":
        of = "a model" if kind in (None, "model") else _OTHER_KINDS.get(str(kind), f"of the type {show(str(kind))}")
        if kind == "adapter":
            of = f"an adapter of the type {show(str(what))}"
        raise _no_adapter(f"it is {of} for {architecture}")
    if not facts.tensor_count or facts.empty_tensor:
        raise _no_adapter("it has no tensors, or empty ones")
    name = facts.values.get("general.name")
    return ModelHeader(
        architecture, name if isinstance(name, str) else "", None, 0, 0, 0, 0, 0,
        facts.tensor_count, facts.tensor_bytes, has_chat_template=False,
    )  # fmt: skip


def _no_adapter(why: str) -> GgufError:
    return GgufError(INVALID, f"cannot use the file as an adapter: {why}; name the GGUF of a LoRA adapter")


def _architecture(facts: Facts) -> str:
    value = facts.values.get(ARCHITECTURE)
    if value is None:
        raise invalid("it does not say which architecture it has")
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise invalid(f"{show(str(value))} cannot be the name of an architecture")
    return value


def _check_whole_model(facts: Facts, architecture: str) -> None:
    """A model, all of it, and nothing that only goes with one."""
    kind = facts.values.get("general.type", "model")
    if kind != "model":
        text = _OTHER_KINDS.get(kind) if isinstance(kind, str) else None
        raise invalid(f"it is {text or 'of the type ' + show(str(kind))}", "use the file of the model itself")
    if architecture == "clip":  # projectors made before they said their type
        raise invalid(f"it is {_OTHER_KINDS['mmproj']}", "use the file of the model itself")
    parts = _number(facts, SPLIT_COUNT, 0, _INT32)
    if parts > 1 and facts.shards == 1:
        part = _number(facts, SPLIT_NO, 0, _INT32) + 1
        raise invalid(f"it is part {part} of {parts}", "name the parts as NAME-00001-of-00002.gguf, or join them")
    if facts.empty_tensor:
        raise invalid(f"tensor {facts.empty_tensor} has a dimension of zero")
    if not facts.tensor_count:
        raise invalid("it has no tensors")


def _number(facts: Facts, key: str, least: int, most: int) -> int:
    """A whole number within bounds; 0 where the file does not say."""
    value = facts.values.get(key)
    if value is None:
        return 0
    if type(value) is not int:
        raise invalid(f"{key} is not a whole number")
    if not least <= value <= most:
        raise invalid(f"{key} is {value}, not from {least} to {most}")
    return value


def _check_embedding(facts: Facts, embedding: int, architecture: str) -> None:
    row = facts.embedding_row
    # Where a model takes features in, its embedding_length is that of its output.
    if embedding and row is not None and row != embedding and f"{architecture}.features_length" not in facts.values:
        raise invalid(f"{architecture}.embedding_length is {embedding} but token_embd.weight has rows of {row}")


def _heads(facts: Facts, architecture: str) -> int:
    """The largest head count of any layer. Recurrent models say 0."""
    key = f"{architecture}.attention.head_count"
    value = facts.values.get(key)
    if isinstance(value, Array):
        return value.largest
    recurrent = any(f"{architecture}.{end}" in facts.values for end in ("ssm.conv_kernel", "wkv.head_size"))
    return _number(facts, key, 0 if recurrent else 1, _INT32)


def _vocabulary(facts: Facts, architecture: str) -> int:
    """How many tokens there are, once the lists that go with them are known to be as long."""
    tokens = facts.values.get("tokenizer.ggml.tokens")
    if tokens is None and facts.values.get("tokenizer.ggml.model") in _TOKENLESS:
        return _number(facts, f"{architecture}.vocab_size", 0, _INT32)
    if not isinstance(tokens, Array) or tokens.kind != Kind.STR or not 0 < tokens.count <= _INT32:
        raise invalid("it has no list of tokens")
    _check_token_list(facts, "tokenizer.ggml.scores", (Kind.F32, Kind.I32), tokens.count)
    _check_token_list(facts, "tokenizer.ggml.token_type", (Kind.I32,), tokens.count)
    return tokens.count


def _check_token_list(facts: Facts, key: str, kinds: tuple[Kind, ...], tokens: int) -> None:
    """The engine indexes these by token: one that is shorter, or of narrower elements, is read past its end."""
    value = facts.values.get(key)
    if value is None:
        return
    if not isinstance(value, Array) or value.kind not in kinds:
        raise invalid(f"{key} is not an array of {' or '.join(k.name.lower() for k in kinds)}")
    if value.count < tokens:
        raise invalid(f"{key} has {value.count} elements for {tokens} tokens")
