"""The notebooks run as they are, show what they say, leave nothing beside them, and are stored without outputs."""

import base64
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

pytestmark = pytest.mark.documented

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 250  # for one cell
PNG = b"\x89PNG"


@dataclass(frozen=True)
class Executed:
    """A notebook after execution. runs: the folder that it has made for its runs."""

    outputs: list[NotebookNode]
    runs: Path

    @property
    def printed(self) -> str:
        """What its cells have printed."""
        return "".join(each.text for each in self.outputs if each.output_type == "stream" and each.name == "stdout")

    def shown(self, kind: str) -> list[str]:
        """What it displays, of a MIME type."""
        return [each.data[kind] for each in self.outputs if kind in each.get("data", {})]

    def pictures(self) -> int:
        """How many figures it displays."""
        return sum(base64.b64decode(each).startswith(PNG) for each in self.shown("image/png"))

    def records(self) -> dict[str, dict]:
        """The records of its runs, by run id."""
        return {path.parent.name: json.loads(path.read_text()) for path in self.runs.glob("*/record.json")}


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Executed]]:
    """Executes a notebook, by its name, with this interpreter, as if nobody had chosen a folder for runs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # its path is short enough for sockets
        monkeypatch.delenv("SPARSE_RNN_RUNS")
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        started_in = tmp_path / "notebooks"
        started_in.mkdir()

        def run(name: str) -> Executed:
            notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
            client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(started_in)}})
            client.km = kernel(Path(folder))
            client.execute()
            outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
            assert list(started_in.iterdir()) == []
            assert not [each for each in outputs if each.output_type == "stream" and each.name == "stderr"]
            return Executed(outputs, next(Path(folder).glob("sparse_rnn-*"), Path(folder)))

        yield run


def kernel(folder: Path) -> AsyncKernelManager:
    """A kernel python3 of this interpreter, whatever kernels the user has; its sockets are files in a folder."""
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc",
        connection_file=str(folder / "kernel.json"),
    )
    assert manager.kernel_spec.argv[0] == sys.executable
    return manager


def numbers(pattern: str, text: str) -> list[int]:
    """The whole numbers that the groups of a pattern match."""
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in\n{text}"
    return [int(group.replace(",", "")) for group in found.groups()]


def test_quickstart(execute):
    """The command finds the run of the Python cell and trains another; the counts are those of the records."""
    done = execute("01_quickstart")
    first, second = sorted(done.records(), key=lambda run_id: "-s2-" in run_id)
    assert f"{first} is finished" in done.printed
    assert re.search(rf"{second}: valid perplexity", done.printed)
    record = done.records()[first]
    assert numbers(r"([\d,]+) values stored, ([\d,]+) active", done.printed) == 2 * [record["active_parameters"]]
    assert any(record["digest"] in text for text in done.shown("text/plain"))
    assert done.pictures() == 1


def test_your_own_rnn(execute):
    """Counts are exact, updates grow what they remove, and the exported weights are the same."""
    done = execute("02_your_own_rnn")
    active, size = numbers(r"([\d,]+) of ([\d,]+) weights are active", done.printed)
    assert active == round(0.2 * size)
    assert numbers(r"([\d,]+) active weights, ([\d,]+) at the start; (\d+) inactive", done.printed) == [
        active,
        active,
        0,
    ]
    [reports] = [text for text in done.shown("text/plain") if "removed" in text]
    updates = [line.split() for line in reports.splitlines()[2:]]
    assert [int(step) for step, *_ in updates] == [50, 100, 150, 200, 250]
    for _, _, removed, grown, _, left in updates:
        assert int(removed) == int(grown) > 0
        assert int(left) == active
    stored, dense = numbers(r"([\d,]+) bytes instead of ([\d,]+)", done.printed)
    assert stored < dense / 2
    assert "the same weights after loading: True" in done.printed
    [own] = [text for text in done.shown("text/plain") if "before" in text]
    densities = {name: (before, after) for name, before, after in map(str.split, own.splitlines()[1:])}
    assert set(densities) == {
        f"{weight}.weight/{gate}" for weight in ("input", "recurrent") for gate in ("forget", "new")
    }
    assert all(before == after for before, after in densities.values())
    assert done.pictures() == 1


def test_gates_over_time(execute):
    """All models are trained, both figures are drawn, and the second warns of itself."""
    done = execute("03_gates_over_time")
    assert "4 of 4 runs are finished" in done.printed
    models = {record["config"]["model"]["name"] for record in done.records().values()}
    assert models == {"stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos"}
    assert done.pictures() == 2
    means = done.shown("text/plain")[-1]
    assert all(name in means for name in ("master_forget", "transform", "Stacked LSTM", "RHN"))


def test_topology_distance(execute):
    """Both runs have one start; the distances of every epoch are shown beside chance, that to itself is 0."""
    done = execute("04_topology_distance")
    configs = [record["config"] for record in done.records().values()]
    assert sorted((config["seed"], config["init_seed"]) for config in configs) == [(1, 1), (2, 1)]
    assert done.printed.splitlines()[-1] == "0.0"
    [table] = [text for text in done.shown("text/plain") if "chance" in text]
    rows = [[float(number) for number in line.split()] for line in table.splitlines()[3:]]
    assert [int(epoch) for epoch, *_ in rows] == list(range(1, 9))
    for _, *values in rows:
        assert all(0 < distance < 1 for distance in values[:4])
        assert values[4:] == pytest.approx(4 * [0.8], abs=0.01)
    assert done.pictures() == 2


def test_reading_results(execute):
    """The table holds the runs and says what it must not be taken for; figure and table are exported."""
    done = execute("05_reading_results")
    assert "6 runs, 0 logs skipped" in done.printed
    [page] = done.shown("text/markdown")
    assert "Not comparable with the paper's numbers: budget smoke, dataset=pydoc." in page
    assert "6 of 6 finished" in page
    finals = [record["results"]["valid/perplexity"] for record in done.records().values()]
    frame = next(text for text in done.shown("text/plain") if "active_parameters" in text)
    assert all(f"{value:.4f}"[:7] in frame for value in finals)
    exported = {path.name for path in (done.runs / "exported").iterdir()}
    assert exported == {"table6.csv", "table6.tex", "forget_gates.png", "forget_gates.svg", "forget_gates.csv"}
    assert r"\begin{tabular}" in done.printed
    assert done.pictures() == 1


def test_a_faster_network(execute):
    """Masks and kernels train the same network, with a tenth of the weights; the plain module computes the same."""
    done = execute("06_a_faster_network")
    [table] = [text for text in done.shown("text/plain") if "of the dense step" in text]
    rows = {name: [float(number) for number in values] for name, *values in map(str.split, table.splitlines()[1:])}
    assert list(rows) == ["dense", "masked", "sparse"]
    assert all(last < 0.9 * first for first, last, *_ in rows.values())
    [apart] = re.findall(r"differ by at most (\S+)", done.printed)
    assert float(apart) < 1e-3
    [active] = re.findall(r"([\d.]+) of the second layer's", done.printed)
    assert 0.05 < float(active) < 0.15
    [(plain, sparse)] = re.findall(r"loss of both: ([\d.]+) and ([\d.]+)", done.printed)
    assert float(plain) == pytest.approx(float(sparse), abs=2e-4)


def test_there_is_a_test_for_every_notebook():
    tested = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    assert [path.stem[3:] for path in NOTEBOOKS if path.stem[3:] not in tested] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernelspec, "language_info": {"name": "python"}}
    assert [cell.id for cell in notebook.cells] == [
        f"{path.stem.replace('_', '-')}-{k:02d}" for k in range(1, len(notebook.cells) + 1)
    ]
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), f"{cell.id}: clear all outputs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_of_a_notebook_resolves(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source if cell.cell_type == "markdown" else ""):
            assert (FOLDER / target).exists(), f"{cell.id} links to {target}"
