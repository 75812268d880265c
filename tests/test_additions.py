"""The pages "Add a ..." applied to one copy of the checkout: what depends on which names there are accepts more.

`make test-additions` runs the other tests there as well.
"""

import subprocess
import sys

from extended_checkout import environment, extend

SENSITIVE = (  # to names, listings, schemas, tables and docs
    "tests/config",
    "tests/tables",
    "tests/core/test_hydra_errors.py",
    "tests/results/test_declared_tables.py",
    "tests/results/test_paper_numbers.py",
    "tests/results/test_command_lines.py",
    "tests/data/test_fetch_command.py",
    "tests/test_documents.py",
    "tests/test_hostile_commands.py",
    "tests/sparsity/test_smallest_gradient.py",
)


def test_what_depends_on_names_accepts_more_of_them(tmp_path):
    copy = extend(tmp_path / "copy")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not full", "-p", "no:cacheprovider", *SENSITIVE]
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
