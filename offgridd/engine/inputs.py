"""From an `Embed` to tokens, before anything is computed: nothing is ever cut. In a thread of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from offgridd.core.purpose import Purpose, why_not
from offgridd.engine.port import Encoder
from offgridd.engine.special import Masker
from offgridd.engine.wire import Chat, Embed, Refused, Request

_PLACES = re.compile(r"\{query\}|\{document\}")


@dataclass(frozen=True, slots=True)
class Texts:
    """A request that may be queued: the token ids of each of its inputs."""

    tokens: list[list[int]]


class InputPreparer:
    """`template`: how the file wants a query and a document put together, where it says that."""

    def __init__(self, model: Encoder, masker: Masker, template: str | None) -> None:
        self._model, self._masker, self._template = model, masker, template

    def prepare(self, asked: Request) -> Texts | Refused:
        """What to queue, or why this request can not be served."""
        wanted: Purpose = "text" if isinstance(asked, Chat) else "embedding" if asked.query is None else "rerank"
        if why := why_not(self._model.pooling, wanted):
            return Refused(asked.id, 400, "unsupported_model", f"cannot ask this of the model: {why}", "model")
        assert isinstance(asked, Embed)
        if asked.dimensions is not None and asked.dimensions > self._model.vector:
            text = f"cannot make vectors of {asked.dimensions} numbers: the model's have {self._model.vector}"
            return Refused(asked.id, 400, "invalid_value", text, "dimensions")
        found: list[list[int]] = []
        for index, text in enumerate(asked.inputs):
            tokens = self._tokens(asked, text)
            if not isinstance(tokens, list):
                return _refused(asked, index, *tokens)
            found.append(tokens)
        return Texts(found)

    def _tokens(self, asked: Embed, text: str) -> list[int] | tuple[str, str]:
        """Or the code of what is wrong with it, and the words."""
        most = self._model.context
        strings = [text] if asked.query is None else [asked.query, text]
        least = sum(map(self._model.vocab.least, strings))
        if least > most:  # told without reading it: a text of megabytes takes seconds
            return "context_length_exceeded", f"it has at least {least} tokens and the model takes {most}; shorten it"
        try:
            tokens = self._model.vocab.document(text) if asked.query is None else self._pair(asked.query, text)
        except ValueError as error:
            return "invalid_value", str(error)
        if not tokens:
            return "invalid_value", "there are no tokens in it"
        if len(tokens) > most:
            return "context_length_exceeded", f"it has {len(tokens)} tokens and the model takes {most}; shorten it"
        return tokens

    def _pair(self, query: str, document: str) -> list[int]:
        """Raises ValueError."""
        vocab = self._model.vocab
        if self._template is None:
            return vocab.pair(vocab.tokenize(query), vocab.tokenize(document))
        stand_ins = self._masker.stand_ins([query, document])
        places = {"{query}": self._masker.mask(query, stand_ins), "{document}": self._masker.mask(document, stand_ins)}
        rendered = _PLACES.sub(lambda found: places[found.group()], self._template)
        tokens: list[int] = []
        for part in self._masker.split(rendered, stand_ins):
            tokens += [part] if isinstance(part, int) else vocab.tokenize(part)
        return tokens


def _refused(asked: Embed, index: int, code: str, why: str) -> Refused:
    name = "input" if asked.query is None else "documents"
    param = name if asked.query is None and len(asked.inputs) == 1 else f"{name}[{index}]"
    with_query = "" if asked.query is None else " with the query"
    return Refused(asked.id, 400, code, f"cannot use {param}{with_query}: {why}", param)
