"""A lock that can not be made whole: what is the network's fault is told from what is the manifest's."""

from __future__ import annotations

import pytest

from offgridd.api.lock import _joined
from offgridd.core.desired import HubSource, ModelSpec
from offgridd.core.errors import Failure, RequestRefused


@pytest.mark.parametrize(
    ("reason", "code"), [("HubTimeout", "hub_failed"), ("HubSlow", "hub_failed"), ("NotFound", "NotFound")]
)
def test_what_keeps_a_lock_from_being_made(reason: str, code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        _joined({"m": ModelSpec("m", HubSource("o/r"))}, {}, {"m": Failure("Resolved", reason, "so it is")})
    assert refused.value.code == code
