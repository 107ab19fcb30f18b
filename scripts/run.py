"""`make run`: the daemon on examples/quickstart.yaml, with its state under run/, and what to try once it is ready."""

from __future__ import annotations

from pathlib import Path

from offgridd import daemon
from offgridd.reconcile.loop import Snapshot
from offgridd.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    place = ROOT / "run"
    socket = place / "admin.sock"

    def announce(snapshot: Snapshot) -> None:
        listen, model = snapshot.desired.server.listen[0], next(iter(snapshot.desired.models))
        body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        print(f"\nREADY at http://{listen}/v1 - try, in another terminal:")
        print(f"  curl --json '{body}' http://{listen}/v1/chat/completions")
        print(f"  .venv/bin/offgrid --host {socket.relative_to(ROOT)} run {model}\n", flush=True)

    settings = Settings(manifest=ROOT / "examples" / "quickstart.yaml", state_dir=place / "state", admin_socket=socket)
    return daemon.run(settings, announce)


if __name__ == "__main__":
    raise SystemExit(main())
