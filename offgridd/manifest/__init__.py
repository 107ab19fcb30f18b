"""Manifest text to desired state: a bounded YAML loader, a strict schema, conf.d, and the documents made from them."""

from offgridd.manifest.accept import Accepted, SourceText, accept
from offgridd.manifest.jsonschema import schema

__all__ = ["Accepted", "SourceText", "accept", "schema"]
