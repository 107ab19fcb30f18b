"""Where a secret is, as the manifest says it. Several sections have one."""

from __future__ import annotations

from offgridd.core.desired import Secret
from offgridd.manifest import values
from offgridd.manifest.fields import Section, live


class Token(Section):
    """Where a token is; one of the three. It is read when it is needed, and shown nowhere."""

    credential: str | None = live(None, "A systemd credential of the service.", pattern=values.SECRET)
    file: str | None = live(None, "An absolute path of this host.", min_length=1, max_length=values.MAX_PATH)
    env: str | None = live(None, "A variable in the daemon's environment.", pattern=values.SECRET)

    def secret(self) -> Secret:
        """Of one that `rules` let pass."""
        ((kind, name),) = self.given().items()
        return Secret(kind, name)  # type: ignore[arg-type]
