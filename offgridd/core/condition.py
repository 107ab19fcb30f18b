"""One condition of a model or of the whole, as Kubernetes has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Value = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: Value
    reason: str
    message: str = ""
