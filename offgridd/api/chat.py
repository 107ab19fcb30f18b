"""A chat request's JSON -> what a worker is asked; every number checked here, before any native code. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offgridd.api.constraint import NAMES, parse_constraint
from offgridd.api.params import bad, integer
from offgridd.api.tools import PARAMETERS as TOOLS
from offgridd.api.tools import Tools, calls_of, parse_tools, template_args
from offgridd.core.desired import Sampling
from offgridd.engine.wire import Constraint, Message, SamplingParams

ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_MESSAGES = 4096
# parameter -> (lowest, highest); openai's own ranges where it has one
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "typical_p": (1e-6, 1.0),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.0, 100.0),
}
MAX_SEED = 2**32 - 2  # the next one is llama.cpp's word for "random"
_INTEGERS = {
    "top_k": (0, 1_000_000),
    "seed": (0, MAX_SEED),
    "dry_allowed_length": (1, 4096),
    "dry_penalty_last_n": (-1, 2**31 - 1),
}
MAX_CHOICES, MAX_TOP_LOGPROBS, MAX_BIASES = 16, 20, 1024
# What clients send with these values means "without"; anything else would be promised and not done.
_ONLY: dict[str, tuple[object, ...]] = {
    "modalities": (["text"],),
}
_OWN = (
    *TOOLS, *NAMES, "reasoning_effort", "chat_template_kwargs", "model", "messages", "max_tokens",
    "max_completion_tokens", "stop", "stream", "stream_options", "n", "logprobs", "top_logprobs", "logit_bias",
    "response_format",
)  # fmt: skip
_IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    given: dict[str, Any]
    max_tokens: int | None
    stop: tuple[str, ...] | None
    stream: bool
    include_usage: bool
    choices: int
    logprobs: int | None  # None = no; else so many of the likeliest tokens beside each chosen one
    logit_bias: tuple[tuple[int, float], ...]
    constraint: Constraint | None
    tools: Tools
    template_args: str  # JSON

    def sampling(self, defaults: Sampling) -> SamplingParams:
        """The request's own values over the manifest's over the API's."""
        names = (*_RANGES, *_INTEGERS)
        merged = {n: self.given.get(n, getattr(defaults, n, None)) for n in names}
        return SamplingParams(**{n: v for n, v in merged.items() if v is not None}, logit_bias=self.logit_bias)


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Raises RequestRefused naming the parameter."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad("model", "it must be the name of a model")
    known = {*_OWN, *_ONLY, *_IGNORED}
    for name, value in body.items():
        if name in _ONLY and value is not None and value not in _ONLY[name]:
            raise bad(name, "this version does not support it", "unsupported_parameter")
        if name not in known and name not in _RANGES and name not in _INTEGERS:
            raise bad(name[:64], "there is no such parameter", "unknown_parameter")
    given = {n: _float(n, body[n]) for n in _RANGES if body.get(n) is not None}
    given |= {n: integer(n, body[n], *_INTEGERS[n]) for n in _INTEGERS if body.get(n) is not None}
    stream = _flag("stream", body.get("stream"))
    messages, stop = _messages(body.get("messages")), _stop(body.get("stop"))
    choices = integer("n", 1 if body.get("n") is None else body["n"], 1, MAX_CHOICES)
    usage, logprobs, bias = _usage(body, stream), _logprobs(body), _logit_bias(body.get("logit_bias"))
    constraint = parse_constraint(body)
    return ChatRequest(
        model, messages, given, _max_tokens(body), stop, stream, usage, choices, logprobs, bias, constraint,
        parse_tools(body), template_args(body),
    )  # fmt: skip


def _logprobs(body: dict[str, Any]) -> int | None:
    wanted, top = _flag("logprobs", body.get("logprobs")), body.get("top_logprobs")
    if top is None:
        return 0 if wanted else None
    count = integer("top_logprobs", top, 0, MAX_TOP_LOGPROBS)
    if count and not wanted:
        raise bad("top_logprobs", "it goes with logprobs: true")
    return count if wanted else None


def _logit_bias(value: object) -> tuple[tuple[int, float], ...]:
    """Whether a token exists is for the worker to say: it knows the vocabulary."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise bad("logit_bias", f"it must be an object of at most {MAX_BIASES} token ids")
    for token, bias in value.items():
        number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not (token.isascii() and token.isdigit() and len(token) < 8) or not number or not -100 <= bias <= 100:
            raise bad("logit_bias", "each key must be a token id and each value a number from -100 to 100")
    return tuple((int(token), float(bias)) for token, bias in value.items())


def _flag(name: str, value: object) -> bool:
    """Not by comparison: 1 == True."""
    if value is not None and not isinstance(value, bool):
        raise bad(name, "it must be true or false")
    return value is True


def _float(name: str, value: object) -> float:
    low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise bad(name, f"it must be a number from {low:g} to {high:g}")
    return float(value)


def _max_tokens(body: dict[str, Any]) -> int | None:
    found = {
        n: integer(n, body[n], 1, 2**31 - 1) for n in ("max_tokens", "max_completion_tokens") if body.get(n) is not None
    }
    if len(set(found.values())) > 1:
        raise bad("max_tokens", "max_completion_tokens says something else")
    return next(iter(found.values()), None)


def _stop(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if (
        not isinstance(stops, list)
        or len(stops) > 16
        or not all(isinstance(s, str) and 0 < len(s) <= 256 for s in stops)
    ):
        raise bad("stop", "it must be up to 16 strings of 1 to 256 characters")
    return tuple(stops)


def _usage(body: dict[str, Any], stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream or not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise bad("stream_options", "it goes with stream and has include_usage only")
    return _flag("stream_options.include_usage", options.get("include_usage"))


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        raise bad("messages", f"it must be a list of 1 to {MAX_MESSAGES} messages")
    return tuple(_message(f"messages[{i}]", one) for i, one in enumerate(value))


def _message(where: str, one: object) -> Message:
    if not isinstance(one, dict):
        raise bad(where, "it must be an object")
    role, name, reasoning = one.get("role"), one.get("name"), one.get("reasoning_content")
    if role not in ROLES:
        raise bad(f"{where}.role", "it must be one of " + ", ".join(ROLES))
    for key, text in (("name", name), ("reasoning_content", reasoning)):
        if text is not None and not isinstance(text, str):
            raise bad(f"{where}.{key}", "it must be a string")
    calls, call_id = calls_of(where, role, one)
    content = one.get("content")
    text = "" if content is None and calls else _content(f"{where}.content", content)
    return Message("system" if role == "developer" else role, text, name, calls, call_id, reasoning or "")


def _content(where: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise bad(where, "it must be a string or a list of text parts")
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise bad(where, "only parts of type text are supported", "unsupported_content")
        if not isinstance(part.get("text"), str):
            raise bad(where, "a text part must have a string text")
    return "".join(part["text"] for part in value)
