"""What a request may say: strict JSON, every number in its range, nothing promised that is not done."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from offgridd.api.body import parse
from offgridd.api.chat import parse_chat
from offgridd.api.guard import host_allowed
from offgridd.core.desired import Desired, Sampling, ServerSpec
from offgridd.core.errors import RequestRefused

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"{} x",
        b"\xef\xbb\xbf{}",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":1,"a":2}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 6000 + b"}",
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_bad_json_is_refused(data: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse(data)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    with contextlib.suppress(RequestRefused):  # any other exception fails the test
        assert isinstance(parse(data), dict)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "hacker", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"max_tokens": 3.7}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 2**40}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32 - 1}, "seed"),
        ({"stream": 1}, "stream"),
        ({"stream": 0}, "stream"),
        ({"stream": 1.0}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream": []}, "stream"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logprobs": 1}, "logprobs"),
        ({"tools": 0}, "tools"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": ["none"]}, "tool_choice"),
        ({"stop": [""]}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"cat": 1}}, "logit_bias"),
        ({"logit_bias": {"-5": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"5": None}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(2000)}}, "logit_bias"),
        ({"tools": [{}]}, "tools[0]"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}}, "response_format.json_schema"),
        ({"regex": ""}, "regex"),
        ({"grammar": 5}, "grammar"),
        ({"lark": "x" * 70_000}, "lark"),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"grammer": "x"}, "grammer"),
    ],
)
def test_a_bad_value_names_its_parameter(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_chat({**GOOD, **change})
    assert (caught.value.status, caught.value.param) == (400, param)


def test_the_request_wins_over_the_manifest_over_the_default() -> None:
    made = parse_chat({**GOOD, "temperature": 0, "top_p": None, "n": 1, "user": "u"})
    sampling = made.sampling(Sampling(temperature=0.7, top_p=0.5))
    assert (sampling.temperature, sampling.top_p, sampling.min_p) == (0, 0.5, 0.0)


def test_flags_and_the_last_seed_are_taken() -> None:
    made = parse_chat({**GOOD, "stream": True, "stream_options": {"include_usage": True}, "seed": 2**32 - 2})
    assert (made.stream, made.include_usage, made.given["seed"]) == (True, True, 2**32 - 2)
    made = parse_chat({**GOOD, "stream": False, "tools": [], "tool_choice": "none", "logprobs": None})
    assert (made.stream, made.logprobs) == (False, None)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:11611", "127.0.0.1:80", "[::1]:11611", "127.9.9.9"])
def test_loopback_hosts_are_served(host: str) -> None:
    assert host_allowed(host, Desired())


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:11611", "localhost.evil.example", "127.0.0.1.nip.io"]
)
def test_other_hosts_are_not(host: str) -> None:
    assert not host_allowed(host, Desired())


def test_a_bound_address_is_served_and_one_that_only_looks_like_it_is_not() -> None:
    desired = Desired(server=ServerSpec(listen=("11.1.1.11:80", "[fd00::1]:80")))
    assert host_allowed("11.1.1.11:80", desired)
    assert host_allowed("[fd00::1]:80", desired)
    assert not host_allowed("1.1.1.1:80", desired)
    assert not host_allowed("fd00::", desired)


def test_the_connections_own_address_is_served_and_a_name_is_not() -> None:
    desired = Desired(server=ServerSpec(listen=("0.0.0.0:80",)))
    assert host_allowed("10.1.2.3:80", desired, "10.1.2.3")
    assert host_allowed("[FD00:0::1]:80", desired, "fd00::1")
    assert not host_allowed("10.1.2.4:80", desired, "10.1.2.3")
    assert not host_allowed("evil.example", desired, "evil.example")
    assert not host_allowed("", desired)
