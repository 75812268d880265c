"""Tables, comparisons and figures of runs that are judged by other metrics than perplexity."""

from dataclasses import replace

import pytest
from constructed_runs import finished, gathered_for, over_sparsity, own_figure

from results.comparisons.claims import HOLDS, Claim
from results.comparisons.pairs import pair_of
from results.figures import forest
from results.figures.crossings import crossings
from results.figures.points import points
from results.page.run_list import lines as listed
from results.tables.cells import fill
from results.tables.flop_columns import FlopsOfRuns
from results.tables.layout import lay_out
from sparse_rnn.core.metrics import ACCURACY, BITS, LOSS, METRICS, MSE, PERPLEXITY, metric_named, metric_of
from sparse_rnn.core.wording import shown_metric
from sparse_rnn.runs.folder import has_results
from sparse_rnn.tables.declaration import Block, Row, TableSpec

GOOD = {  # scores of the better row by seed, those of the worse row, and the table's field of the better one
    ACCURACY: ((0.91, 0.92, 0.93), (0.81, 0.82, 0.83), "92.00% ± 1.00%"),
    BITS: ((1.201, 1.202, 1.203), (1.301, 1.302, 1.303), "1.202 ± 0.001"),
    MSE: ((0.01001, 0.01002, 0.01003), (0.16001, 0.16002, 0.16003), "0.01002 ± 0.00001"),
    PERPLEXITY: ((70.1, 70.2, 70.3), (80.1, 80.2, 80.3), "70.20 ± 0.10"),
}
PROVENANCE = {"environment": {"commit": "c0ffee", "modified": False, "host": "here"}}
ROWS = (Row("Worse", ("sparsifier=rigl",)), Row("Better", ("sparsifier=selfish",)))


def gathered(catalogue, metric, rows=ROWS):
    spec = TableSpec("own", "Own", "nowhere", ("test",), (1, 2, 3), (), (Block("all", rows),))
    better, worse, _ = GOOD[metric]

    def run(planned):
        score = (better if planned.row == "Better" else worse)[planned.seed - 1]
        more = {"best/test/perplexity": 3.0, "best/valid/perplexity": 3.0} if metric == BITS else {}
        made = finished(planned, metric=metric.name, **more)
        final = {**made.final, f"best/test/{metric.name}": score, "clock/finished": 1.0}
        return replace(made, final=final, provenance=PROVENANCE, link="/logs")

    return gathered_for(spec, catalogue, run)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_tables_show_the_metric_and_mark_the_best(metric, catalogue) -> None:
    runs = gathered(catalogue, metric)
    table = fill(runs, FlopsOfRuns(runs.planned))
    grid = lay_out(table, None, "command")
    worse, better = (row[1] for row in grid.sections[0].rows)
    assert better.text.startswith(GOOD[metric][2])
    assert (better.bold, worse.bold) == (True, False)
    said = f"valid and test are {metric.words}."
    assert (said in grid.notes) == (metric in (BITS, MSE))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_comparisons_know_which_is_better(metric, catalogue) -> None:
    runs = gathered(catalogue, metric)
    pair = pair_of(runs, runs.spec.blocks[0])
    assert pair.metric == f"test/{metric.name}"
    assert pair.sentence.endswith("Better is better.")
    turned = Claim(gathered(catalogue, metric, ROWS[::-1]))
    assert turned.verdict == HOLDS


def test_the_forest_has_a_panel_for_each_metric(catalogue) -> None:
    drawing = forest.draw([Claim(gathered(catalogue, metric)) for metric in (BITS, ACCURACY, MSE)])
    labels = [axes.get_xlabel() for axes in drawing.figure.axes]
    assert labels == [
        f"how much worse the first is, in {unit}"
        for unit in ("mean squared error", "bits per character", "points of accuracy")
    ]


@pytest.mark.parametrize(("metric", "crossed"), [(BITS, False), (ACCURACY, True)])
def test_curves_cross_dense_from_the_better_side(metric, crossed, catalogue) -> None:
    """Scores of the sparse networks are higher than that of the dense one."""
    runs = gathered_for(
        own_figure(over_sparsity(0.5, 0.9)),
        catalogue,
        lambda planned: finished(planned, 0.5 if planned.row == "Dense" else 0.8, metric.name),
    )
    data = points(runs)
    assert set(data["metric"]) == {f"test {metric.name}"}
    assert bool(len(crossings(runs, data))) == crossed


def test_the_page_lists_it(catalogue, tmp_path) -> None:
    runs = gathered(catalogue, BITS)
    assert {"1.201", "1.303"} < {item.text for line in listed(runs.logs, tmp_path) for item in line.items}


def test_the_first_metric_of_a_row_counts() -> None:
    row = {"valid/loss": 1.0, "valid/perplexity": 2.7, "valid/bits_per_character": 1.44269}
    assert metric_of(row, "valid/") == BITS
    assert metric_of({"train/loss": 1.0}, "train/") == LOSS
    assert metric_of({}, "best/test/") == PERPLEXITY
    assert (shown_metric(row, "valid"), shown_metric({"train/loss": 0.5}, "train")) == ("1.443", "0.5000")
    assert (metric_named("test/mse"), metric_named("test accuracy"), metric_named("sparsity/model")) == (
        MSE,
        ACCURACY,
        None,
    )
    assert has_results({"results": {"valid/mse": 0.1, "test/mse": 0.2}})
    assert not has_results({"results": {"valid/loss": 0.1, "test/loss": 0.2}})
