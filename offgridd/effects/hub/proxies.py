"""Which proxy the environment names."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(to: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for an address; None where it is asked itself."""
    found = getproxies()
    text = found.get(to.scheme) or found.get("all")
    if not text or proxy_bypass(to.hostname or ""):
        return None
    return urlsplit(text if "://" in text else f"http://{text}")
