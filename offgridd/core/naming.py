"""Names of models: what a name means, and what a model is called."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from offgridd.core.desired import FileSource, HubSource, ModelSpec, Source, UrlSource


def find_in(models: Mapping[str, ModelSpec], name: str) -> tuple[ModelSpec, ...]:
    """Those of `models` that `name` means, in the order of the first way that finds any.

    A declared name; an alias; a file's name; a repository as `owner/repo[:QUANT|/file]`. Of several the
    caller has to say which.
    """
    exact = models.get(name)
    if exact is not None:
        return (exact,)
    ways: tuple[Callable[[ModelSpec], bool], ...] = (
        lambda m: name in m.aliases,
        lambda m: name == file_name(m.source),
        lambda m: name in repository_names(m.source),
    )
    return next((found for way in ways if (found := tuple(m for m in models.values() if way(m)))), ())


def file_name(source: Source) -> str | None:
    """The last part of the file that a source names."""
    match source:
        case FileSource(path):
            return path.rpartition("/")[2]
        case UrlSource(url):
            return url_name(url)
        case _:
            return source.file.rpartition("/")[2] if source.file else None


def url_name(url: str) -> str:
    """The name of the file that an address leads to."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def shown_name(spec: ModelSpec) -> str:
    """What users call a model: its declared name, or the file's where it is kept and not declared."""
    return (file_name(spec.source) or spec.name) if "/" in spec.name else spec.name


def repository_names(source: Source) -> tuple[str, ...]:
    """The ways to name a source by its repository."""
    if not isinstance(source, HubSource):
        return ()
    named = [f"{source.repo}/{source.file}"] if source.file else []
    return (source.repo, *(f"{source.repo}:{quant}" for quant in source.quants), *named)


def is_loopback(address: str) -> bool:
    """Whether a literal `host:port` or `[v6]:port` is reachable from this machine alone."""
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0]).is_loopback
