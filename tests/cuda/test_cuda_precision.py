"""Every precision trains and is recorded; the losses of the first steps differ from fp32 by its rounding."""

import pytest
from device_runs import MODELS, comparable, losses_of, overrides_of, record_of, worst_difference

FIRST = 4  # steps: differences of a low precision grow fast


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("precision", "relative"), [("fp32", 1e-4), ("tf32", 0.02), ("bf16", 0.1)])
def test_a_precision_trains_and_is_recorded(runs, model, precision, relative):
    common = [*comparable(model), "logger.every=1"]
    exact = runs(overrides_of(model, "static_uniform", None, *common), "cpu")
    folder = runs(overrides_of(model, "static_uniform", None, *common, f"precision={precision}"))
    losses = losses_of(folder)
    worst, step = worst_difference(losses[:FIRST], losses_of(exact)[:FIRST])
    assert worst <= relative, f"the loss of step {step} differs by {worst:.1e}"
    assert sum(losses[-5:]) < sum(losses[:5])
    record = record_of(folder)
    assert record["config"]["precision"] == precision
    assert (folder.path.name != exact.path.name) == (precision != "fp32")
