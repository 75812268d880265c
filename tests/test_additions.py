"""The pages "Add a ..." applied to one copy of the checkout: what depends on which names there are accepts more.

`make test-additions` runs the other tests there as well.
"""

import subprocess
import sys

import pytest
from extended_checkout import environment, extend

SENSITIVE = (  # to names, listings, schemas, tables and docs
    "tests/config/test_config.py::test_every_option_composes",
    "tests/config/test_recipes.py::test_every_recipe_composes",
    "tests/core/test_hydra_errors.py",
    "tests/tables/test_tables.py::test_the_papers_tables_and_figures_are_all_here_and_others_compose",
    "tests/results/test_declared_tables.py",
    "tests/results/test_paper_numbers.py",
    "tests/results/test_command_lines.py::test_the_tables_of_declarations_in_the_project_are_those_of_today",
    "tests/data/test_fetch_command.py",
    "tests/data/test_published.py",
    "tests/test_documents.py::test_the_table_of_methods_is_up_to_date",
    "tests/test_documents.py::test_every_link_between_pages_resolves",
    "tests/sparsity/test_smallest_gradient.py",
)


@pytest.mark.documented
@pytest.mark.timeout(900)  # a minute, on a machine that does nothing else
def test_what_depends_on_names_accepts_more_of_them(tmp_path):
    copy = extend(tmp_path / "copy")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not full", "-p", "no:cacheprovider", *SENSITIVE]
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
