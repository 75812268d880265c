"""Table 10 of Selfish-RNN: the FLOPs of a training step by method, and what they come to for the stacked LSTM."""

from collections.abc import Callable, Iterator, Sequence

from sparse_rnn.config.schema import Run
from sparse_rnn.runs.flops import run_flops

from ..grid import Grid, Heading
from .methods import Method, by_paper, dense_signals, finds_its_size, methods, moves_across_layers
from .parts import UNKNOWN, declared_grid, headings

TITLE, SOURCE = "Training FLOPs of sparse training approaches", "Selfish-RNN (ICML 2021), Table 10"


def table10() -> Grid:
    """The formulas of all methods, and their ratios to dense for the stacked LSTM; raises ConfigError."""
    listed = methods("model=stacked_lstm", "optimizer=adam")
    rows = []
    for method in listed:
        flops = run_flops(method.run)
        ratios = [f"{ratio:.3f}x" for ratio in (flops.train_ratio, flops.test_ratio)]
        if finds_its_size(method.run):
            ratios = [UNKNOWN] * len(ratios)
        rows.append((method, [method.label, *_formulas(method.run), *ratios]))
    example = f"Stacked LSTM, sparsity {listed[0].run.recipe.sparsity}"
    return declared_grid(
        "table10",
        TITLE,
        SOURCE,
        header=[
            (Heading("", 4), Heading(example, 2)),
            headings("Method", "Forward pass", "Backward pass", "Total", "Training", "Test"),
        ],
        sections=by_paper(rows),
        notes=tuple(_notes(listed)),
        made_from="conf/sparsifier",
    )


def _formulas(run: Run) -> tuple[str, str, str]:
    """FLOPs of a sample forward, backward and in total (Selfish-RNN appendix L)."""
    if not run.sparsifier.masked:
        return "fD", "2 fD", "3 fD"
    if run.sparsifier.prunes:
        return "d(t) fD", "2 d(t) fD", "3 d(t) fD"
    if "momentum" in dense_signals(run):
        return "fS", "fS + fD", "2 fS + fD"
    if "reserve" in dense_signals(run):
        return "fS", "fS + fB", "2 fS + fB"
    if "gradient" in dense_signals(run):
        return "fS", "((2T + 1) fS + fD) / (T + 1)", "((3T + 2) fS + fD) / (T + 1)"
    return "fS", "2 fS", "3 fS"


def _notes(listed: Sequence[Method]) -> Iterator[str]:
    def labels(holds: Callable[[Run], bool]) -> str:
        return ", ".join(method.label for method in listed if holds(method.run))

    yield (
        "fD, fS: FLOPs of the dense and of the sparse network forward. d(t): share of weights active at step t, which "
        "the paper writes s_t. T: steps between updates; the ratios leave the dense gradient of an update out."
    )
    yield "An embedding that is only looked up counts with the gradient of its weight alone (appendix L)."
    if moving := labels(moves_across_layers):
        yield f"{moving}: counted by the distribution over layers that training begins with; a run changes it."
    if finding := labels(finds_its_size):
        yield f"{finding}: the size is an outcome of training, and so are the FLOPs."
    if superset := labels(lambda run: "reserve" in dense_signals(run)):
        yield f"{superset}: fB are the FLOPs of a network as dense as the weights that have gradients."
    if keeping := labels(lambda run: "momentum" in dense_signals(run)):
        yield (
            f"{keeping}: with Adam or momentum SGD. SNT-ASGD and NT-ASGD have no momentum: the gradient at an update "
            "takes its place, and the formula is that of gradient growth."
        )
