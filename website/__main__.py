"""Builds the documentation site: python -m website [FOLDER], by default build/docs."""

import shutil
import subprocess
import sys
from pathlib import Path

from sparse_rnn.core.errors import ConfigError
from website.links import broken
from website.staging import ROOT, stage


def main() -> int:
    """Stage the pages, build them, and check every link of what was built; returns the exit code."""
    out = Path(*sys.argv[1:2] or [ROOT / "build" / "docs"]).resolve()
    work = ROOT / "build" / "website"
    try:
        stage(work)
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", work / "mkdocs.yml"]
    done = subprocess.run(words, cwd=ROOT)  # where mkdocstrings finds the packages
    if done.returncode:
        return done.returncode
    if wrong := broken(work / "docs"):
        print(*(f"error: {each}" for each in wrong), sep="\n", file=sys.stderr)
        return 1
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(work / "docs", out)
    print(f"The documentation is in {out / 'index.html'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
