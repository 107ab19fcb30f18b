"""Host settings: where things live. By flag or OFFGRIDD_* only; never models, which are the manifest's.

They are explained in docs/settings.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from offgridd import places


class SettingsRefused(Exception):
    """A setting can not be used; the text says which and why."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OFFGRIDD_", extra="forbid")

    manifest: Path = Path("/etc/offgridd/offgridd.yaml")
    state_dir: Path = Field(default_factory=places.state)
    admin_socket: Path = Field(default_factory=lambda: places.runtime() / "admin.sock")
    admin_group: str | None = None  # who may use the admin socket besides its owner
    private: bool = False  # no manifest and no TCP: only the admin socket, until its last client has gone
    linger: float = Field(10.0, ge=0, allow_inf_nan=False)  # seconds without a client until a private daemon ends
    store_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "journal", "json"] = "auto"
    engine: Literal["llama", "fake", "probe"] = "llama"  # fake: deterministic letters; probe: tries its own sandbox

    @property
    def origins(self) -> dict[str, tuple[Any, str]]:
        """By name, the value and what gave it: a flag, a variable, or nobody."""
        found: dict[str, tuple[Any, str]] = {}
        for name in type(self).model_fields:
            variable = f"OFFGRIDD_{name.upper()}" if name in self.model_fields_set else "default"
            found[name] = (getattr(self, name), _flag(name) if name in self._flags else variable)
        return found

    @property
    def socket_mode(self) -> int:
        """Of the admin socket, and of those beside it."""
        return 0o600 if self.private else 0o660

    _flags: frozenset[str] = PrivateAttr(frozenset())

    @field_validator("store_roots", mode="before")
    @classmethod
    def _roots(cls, given: Any) -> Any:
        """In the environment a list is written as PATH is, or as JSON."""
        if not isinstance(given, str):
            return given
        return json.loads(given) if given.startswith("[") else [root for root in given.split(":") if root]

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, given: Any) -> Any:
        return given.lower() if isinstance(given, str) else given

    @model_validator(mode="after")
    def _private_places(self) -> Settings:
        if self.private:
            given = self.model_fields_set
            self.state_dir = self.state_dir if "state_dir" in given else places.user_state()
            self.admin_socket = self.admin_socket if "admin_socket" in given else places.user_runtime() / "admin.sock"
        return self


def load(flags: dict[str, Any]) -> Settings:
    """The flags over the environment over the defaults. Raises SettingsRefused."""
    try:
        made = Settings(**flags)
        made._flags = frozenset(flags)
        return made
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        where = _flag(name) if name in flags else "OFFGRIDD_" + name.upper()
        why = " ".join(first["msg"].split())
        raise SettingsRefused(f"cannot use {where}: {why}; docs/settings.md says what it may be") from error
    except SettingsError as error:
        why = " ".join(str(error).split())
        raise SettingsRefused(f"cannot read the settings: {why}; see docs/settings.md") from error


def _flag(name: str) -> str:
    return "--store-root" if name == "store_roots" else "--" + name.replace("_", "-")
