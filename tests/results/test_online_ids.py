"""Run ids from a server become names of files: only where they are such names."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from results.sources import mirror, online

HOSTILE = (
    "../outside",
    "/tmp/outside",
    "a/b",
    "..",
    ".hidden",
    "",
    "a\nb",
    "a b",
    "x" * 300,
    "-rf",
    "a\x00b",
    "\u0661",
)
SOUND = ("rhn-ptb-selfish-s1-0a1b2c3d", "1a2b3c4d", "own_text.v2-s1")


@pytest.mark.parametrize("run_id", HOSTILE)
def test_what_is_no_file_name(run_id: str) -> None:
    assert not mirror.is_file_name(run_id)


def test_runs_of_such_ids_are_skipped_and_the_others_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(run_id: str) -> SimpleNamespace:
        return SimpleNamespace(
            id=run_id,
            heartbeat_at="",
            history_line_count=0,
            state="finished",
            url="",
            config={},
            scan_history=lambda use_cache: iter([{"step": 1}]),
        )

    runs = [run(run_id) for run_id in (*HOSTILE, *SOUND)]
    monkeypatch.setattr(online, "connect", lambda project: SimpleNamespace(runs=lambda name: runs))
    online.fetch("entity/project", tmp_path / "copies" / "here")
    assert sorted(mirror.copies(tmp_path / "copies" / "here")) == sorted(SOUND)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stem not in SOUND] == []
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len(HOSTILE)
    assert "warning: the run '../outside' is skipped: its id cannot be a file's name" in warnings


@pytest.mark.parametrize("project", ["../..", "./x", "x/..", "../x", "x/."])
def test_a_project_leads_to_no_other_folder(project: str) -> None:
    assert not online.PROJECT.fullmatch(project)
