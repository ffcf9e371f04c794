"""A harvest that is killed or interrupted goes on: the same samples in the end, none twice, none lost."""

from __future__ import annotations

import json
import signal

import pytest

KEYS_AND_TEXTS = "SELECT key, text FROM samples WHERE model_fingerprint = '{}'"


def harvested(toy_run, query) -> dict[str, str]:
    """Key -> text of the uninterrupted harvest (the ledger also has the evaluation's samples of the teacher)."""
    harvest = toy_run.record["harvest"]
    found = query(toy_run.directory, KEYS_AND_TEXTS.format(harvest["teacher_fingerprint"]) + " ORDER BY row_id")
    return dict(found[: harvest["samples"]])


def waits_for(query, directory, samples: int):
    return lambda: len(query(directory, "SELECT 1 FROM samples")) >= samples


def interrupted(distill, query, tmp_path, number: signal.Signals, **how):
    """(run directory, exit code, stderr) of a harvest that got the signal after its first sample.

    On a starved machine the harvest may end before its first sample is noticed here; then another one is started.
    """
    for attempt in range(10):
        out = tmp_path / f"run{attempt}"
        command = ("harvest", "toy/quick", "--out", out)
        code, err = distill.interrupt(waits_for(query, out, 1), number, *command, **how)
        if code != 0:
            break
    return out, code, err


def test_kill_9_at_several_instants(distill, toy_run, query, tmp_path):
    expected = harvested(toy_run, query)
    command = ("harvest", "toy/quick", "--out", tmp_path / "run")
    known: dict[str, str] = {}
    for samples in (1, len(expected) // 2):
        code, err = distill.interrupt(waits_for(query, tmp_path / "run", samples), signal.SIGKILL, *command)
        assert code in (-signal.SIGKILL, 0), err
        assert samples > 1 or code == -signal.SIGKILL
        kept = dict(query(tmp_path / "run", "SELECT key, text FROM samples"))
        assert known.items() <= kept.items()
        assert kept.items() <= expected.items()
        known = kept
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    found = query(tmp_path / "run", "SELECT key, text FROM samples")
    assert len(found) == len(expected)
    assert dict(found) == expected
    figures, uninterrupted = json.loads(done.stdout), toy_run.record["harvest"]
    assert figures["samples_from_ledger"] == len(known) > 0
    for name in ("samples", "accepted", "outcomes", "finish_reasons", "completion_tokens", "families"):
        assert figures[name] == uninterrupted[name], name
    check = query(tmp_path / "run", "SELECT count(*), count(DISTINCT sample_key) FROM verdicts")
    assert check == [(len(expected), len(expected))]


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_signals_stop_cleanly(distill, toy_run, query, tmp_path, number, code):
    expected = harvested(toy_run, query)
    out, found, err = interrupted(distill, query, tmp_path, number)
    assert found == code, err
    assert err.count("error:") == 1
    assert "error: interrupted; everything finished so far is saved" in err
    assert "Traceback" not in err
    assert not list(out.glob("ledger.db-wal"))  # closed, not torn
    kept = dict(query(out, "SELECT key, text FROM samples"))
    assert kept
    assert kept.items() <= expected.items()
    stage = json.loads((out / "run.json").read_text())["stages"]["harvest"]
    assert stage["state"] == "interrupted"
    again = distill("harvest", "toy/quick", "--out", out, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["samples_from_ledger"] == len(kept)
    assert dict(query(out, "SELECT key, text FROM samples")) == expected


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_group(distill, query, tmp_path):
    """A terminal sends SIGINT to the verifier's workers as well: no worker's traceback, none left behind."""
    _, code, err = interrupted(distill, query, tmp_path, signal.SIGINT, group=True)
    assert code == 130, err
    assert "Traceback" not in err
