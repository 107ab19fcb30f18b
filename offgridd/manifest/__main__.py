"""`python -m offgridd.manifest [DOCS]`: writes the generated pages anew, for developers."""

from __future__ import annotations

import sys
from pathlib import Path

from offgridd.core import reasons
from offgridd.manifest.jsonschema import reference, schema_text


def main(arguments: list[str]) -> int:
    docs = Path(*arguments[:1] or ["docs"])
    if not docs.is_dir():
        print(f"cannot write to {docs}: it is not a folder; run this in the repository's root", file=sys.stderr)
        return 1
    (docs / "manifest.schema.json").write_text(schema_text(), encoding="utf-8")
    (docs / "manifest.md").write_text(reference(), encoding="utf-8")
    (docs / "reasons.md").write_text(reasons.reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
