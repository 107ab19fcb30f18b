"""The hub: repositories, files and where they lie. The door to huggingface_hub and its HTTP library."""

from offgridd.core.hub import Target
from offgridd.effects.hub.client import HubClient
from offgridd.effects.hub.content import Content, Wires
from offgridd.effects.hub.gate import Gate
from offgridd.effects.hub.session import seconds_to_wait
from offgridd.effects.hub.web import find

__all__ = ["Content", "Gate", "HubClient", "Target", "Wires", "find", "seconds_to_wait"]
