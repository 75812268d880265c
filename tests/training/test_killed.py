"""A run that is killed at any moment resumes as if nothing had happened: real processes, real SIGKILL."""

import random

import pytest
from run_helpers import Commands, Train, folder_of, lines_in, record_of, rows_of, wait_until

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_it_ends_as_the_undisturbed_run(
    tiny: list[str], commands: Commands, train_here: Train, seed: int
) -> None:
    overrides = [*tiny, "training.epochs=12", "sparsifier=rigl", "sparsifier.update_interval=7", "logger=files"]
    undisturbed = train_here(overrides, "undisturbed")
    folder = folder_of(overrides, commands.root)
    draw = random.Random(seed)
    kills = 0
    for _ in range(6):
        rows = lines_in(folder.metrics) + draw.randrange(1, 12)
        process = commands.start(overrides)
        wait_until(lambda process=process, rows=rows: process.exitcode is not None or lines_in(folder.metrics) >= rows)
        process.join(draw.random() * 0.02)
        process.kill()
        process.join()
        kills += process.exitcode == -9
    code, _ = commands.run(overrides)
    assert code == 0
    assert kills >= 3
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]
    assert rows_of(folder) == rows_of(undisturbed)
    assert not folder.lock.exists()
