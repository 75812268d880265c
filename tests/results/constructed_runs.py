"""Figures of constructed runs, whose numbers are known."""

from results.gathering import Gathered
from results.sources.logs import LoggedRun, Logs
from sparse_rnn.tables.declaration import Axis, Block, Row, TableSpec
from sparse_rnn.tables.expansion import expand

INPUT, RECURRENT = "layers.0.input.weight", "layers.0.recurrent.weight"


def finished(planned, score=70.0, metric="perplexity", **more):
    """A run that ended with this test score; its gates are those of an ON-LSTM, whatever its model."""
    sparsity = planned.facts.config["sparsifier"]["sparsity"]
    final = {
        "step": 9,
        "epoch": 3,
        "best/valid/loss": 4.0,
        f"best/valid/{metric}": score + 2,
        f"best/test/{metric}": score,
        "averaging/trigger_epoch": 1,
        "averaging/forced": 0.0,
        "best/averaged": 1,
        "best/sparsity/model": sparsity,
        f"best/sparsity/{INPUT}": sparsity,
        f"best/sparsity/{INPUT}/forget": 0.7,
        f"best/sparsity/{INPUT}/cell": 0.5,
        f"best/sparsity/{RECURRENT}/forget": 0.6,
        **more,
    }
    rows = [
        {"step": 1, "train/loss": 5.0},
        *({"step": epoch * 3, "epoch": epoch, "valid/loss": 4.0, **_weights(epoch)} for epoch in (1, 2, 3)),
        final,
    ]
    return LoggedRun(planned.run_id, planned.facts.config, {}, "finished", final, "", lambda: rows)


def _weights(epoch):
    return {
        f"large_weights/raw/{INPUT}": 100 * epoch,
        f"large_weights/evaluated/{INPUT}": 90 * epoch,
        f"large_weights/raw/{RECURRENT}": 7,
        f"large_weights/evaluated/{RECURRENT}": 7,
        f"sparsity/{INPUT}": 0.6,
        f"sparsity/{INPUT}/forget": 0.6 + epoch / 100,
        "sparsity/model": 0.6,
    }


def gathered_for(spec, catalogue, run=finished, *, seeds=None, overrides=()):
    """Every planned run as `run` makes it; None is no run."""
    planned = expand(spec, catalogue.facts, seeds=seeds, overrides=overrides)
    runs = {each.run_id: made for each in planned if (made := run(each)) is not None}
    return Gathered(spec, planned, Logs("constructed", runs), tuple(overrides), as_declared=not overrides)


def own_figure(*blocks, seeds=(1,), name="own"):
    return TableSpec(name, "A figure of one's own", "nowhere", (), seeds, (), blocks)


def over_sparsity(*values):
    rows = (
        Row("Selfish", ("sparsifier=selfish",)),
        Row("Dense", ("sparsifier=dense", "optimizer=nt_asgd"), line=True),
    )
    return Block("Sparsity", rows, x=Axis("sparsifier.sparsity", values))


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
