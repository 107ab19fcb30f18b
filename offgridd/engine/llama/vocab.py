"""Text <-> tokens of one model."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import llama_cpp as lib

_WHOLE = (1, 2)  # llama_vocab_type of those whose tokens are the text, all of it: SPM and BPE
CONTROL, LSTRIP, RSTRIP = 1 << 3, 1 << 7, 1 << 8  # llama_token_attr


class Vocab:
    def __init__(self, model: object) -> None:
        self.pointer = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self.pointer)
        self.longest = max((len(self.piece(token, special=True)) for token in range(self.size)), default=1) or 1

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; without `special` no text becomes a control token. BOS is never added."""
        return self._tokens(text, edges=False, special=special)

    def document(self, text: str) -> list[int]:
        return self._tokens(text, edges=True, special=False)

    def least(self, text: str) -> int:
        """0 where a vocabulary leaves characters out, or makes one token of what it does not know."""
        return len(text) // self.longest if lib.llama_vocab_type(self.pointer) in _WHOLE else 0

    def pair(self, query: list[int], document: list[int]) -> list[int]:
        """As llama-server does it, but that the document ends as any text does: BERT wants SEP there."""
        vocab = self.pointer
        bos, sep = lib.llama_vocab_bos(vocab), lib.llama_vocab_sep(vocab)
        eos = lib.llama_vocab_eos(vocab)
        begin = [bos] if lib.llama_vocab_get_add_bos(vocab) else []
        end = [eos if eos >= 0 else sep] if lib.llama_vocab_get_add_eos(vocab) else []
        between = [sep] if lib.llama_vocab_get_add_sep(vocab) else []
        made = [*begin, *query, *end, *between, *document, *(end or between)]
        return [token for token in made if token >= 0]

    def edges(self) -> tuple[int | None, bool]:
        bos = lib.llama_vocab_bos(self.pointer) if lib.llama_vocab_get_add_bos(self.pointer) else None
        return bos, bool(lib.llama_vocab_get_add_eos(self.pointer))

    def _tokens(self, text: str, *, edges: bool, special: bool) -> list[int]:
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 16
        while True:
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(self.pointer, raw, len(raw), tokens, room, edges, special)
            if count >= 0:
                return list(tokens[:count])
            if -count <= room:  # else that many are needed: some vocabularies take characters apart
                raise ValueError("the library can not tokenise it")
            room = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        room = 64
        while True:
            buffer = (ctypes.c_char * room)()
            count = lib.llama_token_to_piece(self.pointer, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self.pointer, token))

    def controls(self) -> tuple[dict[str, int], dict[int, int]]:
        """Texts of the control tokens, and which of them strip the text beside (1 left, 2 right)."""
        texts: dict[str, int] = {}
        strips: dict[int, int] = {}
        for token in range(self.size):
            attr = lib.llama_vocab_get_attr(self.pointer, token)
            if attr & CONTROL:
                texts[self.piece(token, special=True).decode("utf-8", "replace")] = token
                strips[token] = (1 if attr & LSTRIP else 0) | (2 if attr & RSTRIP else 0)
        return texts, strips

    def grammar_tokenizer(self) -> Any:
        from llguidance.llamacpp import lltokenizer_from_vocab

        ends = [token for token in range(self.size) if self.is_end(token)]
        with warnings.catch_warnings():  # it calls functions of the library under their old names
            warnings.simplefilter("ignore", DeprecationWarning)
            return lltokenizer_from_vocab(self.pointer, eos_token=ends or None)

    def names(self) -> dict[str, str]:
        """The variables that chat templates use for special tokens."""
        ids = {"bos_token": lib.llama_vocab_bos(self.pointer), "eos_token": lib.llama_vocab_eos(self.pointer)}
        return {n: self.piece(i, special=True).decode("utf-8", "replace") if i >= 0 else "" for n, i in ids.items()}
