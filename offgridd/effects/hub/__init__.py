"""The hub: repositories, files and where they lie. The door to huggingface_hub and its HTTP library."""

from offgridd.effects.hub.client import HubClient, Target
from offgridd.effects.hub.session import Content, open_content, seconds_to_wait

__all__ = ["Content", "HubClient", "Target", "open_content", "seconds_to_wait"]
