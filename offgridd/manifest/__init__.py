"""Manifest text to desired state: a bounded YAML loader, a strict schema, conf.d, and the documents made from them."""

from offgridd.manifest.accept import Accepted, accept, accept_fetched, accept_files, is_lock
from offgridd.manifest.adding import add_model
from offgridd.manifest.effective import Value, as_text, effective
from offgridd.manifest.jsonschema import schema
from offgridd.manifest.lockfile import read_lock, write_lock
from offgridd.manifest.reading import SourceText

__all__ = [
    "Accepted",
    "SourceText",
    "Value",
    "accept",
    "accept_fetched",
    "accept_files",
    "add_model",
    "as_text",
    "effective",
    "is_lock",
    "read_lock",
    "schema",
    "write_lock",
]
