"""Addresses of a hub, as browsers show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.hub import is_path, is_repo
from offgridd.core.hubaddress import Address, is_address, parse_address

HUBS = ("http://127.0.0.1:8611/mirror", "https://huggingface.co")
AT = "https://huggingface.co/acme/M-GGUF"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (AT, Address("acme/M-GGUF")),
        (f"{AT}/", Address("acme/M-GGUF")),
        (f"{AT}?library=gguf#top", Address("acme/M-GGUF")),
        ("HTTPS://HuggingFace.co:443/acme/M", Address("acme/M")),
        (f"{AT}/tree/main", Address("acme/M-GGUF")),
        (f"{AT}/tree/refs%2Fpr%2F1", Address("acme/M-GGUF", "refs/pr/1")),
        (f"{AT}/blob/main/m-Q8_0.gguf", Address("acme/M-GGUF", None, "m-Q8_0.gguf")),
        (f"{AT}/resolve/v1/a/m%20x.gguf?download=true", Address("acme/M-GGUF", "v1", "a/m x.gguf")),
        ("http://127.0.0.1:8611/mirror/acme/M/raw/v1/x.gguf", Address("acme/M", "v1", "x.gguf")),
        ("http://huggingface.co/acme/M", "it is no address of"),
        ("https://huggingface.co.evil.example/acme/M", "it is no address of"),
        ("https://user@huggingface.co/acme/M", "it is no address of"),
        ("https://huggingface.co:444/acme/M", "it is no address of"),
        ("https://huggingface.co:x/acme/M", "it is no address of"),
        ("https://[huggingface.co/acme/M", "it is no address of"),
        ("http://127.0.0.1:8611/acme/M", "it is no address of"),
        ("http://127.0.0.1:8611/mirrored/acme/M", "it is no address of"),
        ("https://huggingface.co/acme\n/M", "it is no address of"),
        ("https://huggingface.co", "it is no address of"),
        ("https://huggingface.co/", "it names no repository"),
        ("https://huggingface.co/acme", "it names no repository"),
        ("https://huggingface.co/acme/..", "it names no repository"),
        ("https://huggingface.co//acme/M", Address("acme/M")),
        ("https://huggingface.co/a%2Fb/M", "it names no repository"),
        ("https://huggingface.co/datasets/acme/M", "it is the address neither"),
        (f"{AT}/discussions/3", "it is the address neither"),
        (f"{AT}/tree/main/folder", "it is the address neither"),
        (f"{AT}/blob/main", "it is the address neither"),
        (f"{AT}/resolve/main/a%00b.gguf", "it is the address neither"),
        (f"{AT}/resolve/main/a%1b[31m.gguf", "it is the address neither"),
        (f"{AT}/resolve//x.gguf", "it is the address neither"),
    ],
)
def test_what_an_address_means(text: str, found: Address | str) -> None:
    assert is_address(text)
    made = parse_address(text, HUBS)
    assert made == found if isinstance(found, Address) else str(made).startswith(found)


@given(st.text(max_size=60))
def test_no_text_is_an_error(text: str) -> None:
    found = parse_address(f"{AT}{text}", HUBS)
    if isinstance(found, Address):
        assert is_repo(found.repo)
        assert found.file is None or is_path(found.file)
    parse_address(text, HUBS)
