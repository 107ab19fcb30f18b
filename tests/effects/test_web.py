"""Which redirects are followed, and what a server of the web says of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hubs import local_hub

from offgridd.core.hub import HubError
from offgridd.effects.hub import find
from offgridd.effects.hub.web import check_redirect


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("base", "to"),
    [
        ("https://8.8.8.8/a", "http://8.8.4.4/a"),
        ("https://8.8.8.8/a", "https://127.0.0.1/a"),
        ("https://8.8.8.8/a", "https://10.1.2.3/a"),
        ("http://8.8.8.8/a", "http://169.254.169.254/latest/meta-data"),
        ("https://8.8.8.8/a", "https://[::1]/a"),
        ("https://8.8.8.8/a", "https://localhost/a"),
    ],
)
def test_nobody_is_led_into_our_own_network(base: str, to: str) -> None:
    with pytest.raises(HubError) as caught:
        check_redirect(base, to)
    assert caught.value.failure.reason == "UnsafeRedirect"
    assert not caught.value.failure.passing


@pytest.mark.parametrize(
    ("base", "to"),
    [
        ("https://8.8.8.8/a", "https://8.8.4.4/b"),
        ("http://8.8.8.8/a", "https://8.8.8.8/a"),
        ("http://127.0.0.1/a", "http://10.0.0.1/a"),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/a"),
    ],
)
def test_what_changes_no_network_is_followed(base: str, to: str) -> None:
    check_redirect(base, to)


def test_a_proxy_reaches_what_it_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    check_redirect("https://8.8.8.8/a", "https://10.1.2.3/a")


def test_a_file_behind_redirects_is_found(tmp_path: Path) -> None:
    with local_hub(tmp_path) as hub:
        hub.put("acme/Tiny", {"a.gguf": b"x" * 1234})
        found = find(f"{hub.base}/acme/Tiny/resolve/main/a.gguf")
        assert (found.size, found.direct) == (1234, False)
        assert hub.seen.sent[""] <= 1


@pytest.mark.parametrize(
    ("path", "passing"),
    [("acme/Tiny/resolve/main/none.gguf", False), ("status=503/acme/Tiny/resolve/main/a.gguf", True)],
)
def test_what_is_not_there_has_a_reason(tmp_path: Path, path: str, passing: bool) -> None:
    with local_hub(tmp_path) as hub:
        hub.put("acme/Tiny", {"a.gguf": b"x" * 1234})
        with pytest.raises(HubError) as caught:
            find(f"{hub.base}/{path}")
        assert (caught.value.failure.reason, caught.value.failure.passing) == ("UrlRefused", passing)
