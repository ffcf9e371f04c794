"""pytest tests/test_check.py"""

import json

import pytest

from distill.check import check


@pytest.fixture(autouse=True)
def shelf(small_catalogue):
    return small_catalogue


def faults(name: str) -> str:
    return "\n".join(fault["message"] for fault in check([name])["faults"])


def edit(path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("name", ["big", "small", "small/quick", "sums", "better"])
def test_a_sound_file_has_no_faults(name):
    assert check([name]) == {"checked": 1, "faults": []}


@pytest.mark.parametrize(
    ("name", "file", "before", "after", "message"),
    [
        ("big", "teachers/big.yaml", "name: big", "name: bigger", "name: expected 'big' as the file is called"),
        ("big", "teachers/big.yaml", "2026-01-02", "2999-01-02", "lies in the future"),
        ("big", "teachers/big.yaml", "https://example.org/big", "gone.md", "neither a URL nor a file next to the card"),
        ("big", "teachers/big.yaml", "licence:", "license:", "did you mean 'licence'?"),
        ("small/quick", "students/small/quick.yaml", "gate: better", "gate: bettr", "did you mean 'better'?"),
        ("small/quick", "students/small/quick.yaml", "[sums]", "[sum]", "task 'sum' not found"),
        ("small/quick", "students/small/quick.yaml", "path: sums", "path: sum", "'sum.jsonl' does not exist"),
        ("small/quick", "students/small/quick.yaml", "max_traces", "max_trace", "did you mean 'max_traces'?"),
        ("small/quick", "students/small/quick.yaml", "max_traces: 2", "max_traces: two", "expected int"),
        ("sums", "eval/tasks/sums.yaml", "  version: 1.0\n", "", "metadata.version: required"),
        ("better", "eval/gates/better.yaml", "[sums]", "[sum]", "task 'sum' not found"),
        ("better", "eval/gates/better.yaml", "ratio", "ration", "did you mean 'ratio'?"),
        ("better", "eval/gates/better.yaml", "ratio: 2.0", "margin: 1.5", "the verdict is known without a sample"),
    ],
)
def test_each_fault_is_found(shelf, name, file, before, after, message):
    edit(shelf / file, before, after)
    assert message in faults(name)


RIVAL = """
kind: baseline
name: rival
title: Rival
model: maker/rival
results:
  - task: sums
    metric: pass@1
    value: 63.6
    harness: own
    source: {url: https://example.org/paper, table: Table 3, retrieved: 2026-01-02}
"""


@pytest.fixture
def rival(shelf):
    path = shelf / "eval" / "baselines" / "rival.yaml"
    path.parent.mkdir()
    path.write_text(RIVAL.lstrip(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("name: rival", "name: rivel", "name: expected 'rival' as the file is called"),
        ("value: 63.6", "value: 636.0", "rival.yaml: results.0 (sums pass@1): value: expected 0 to 100 (per cent)"),
        ("task: sums", "task: Sums", "task: found 'Sums', the task is called 'sums'; write that."),
        ("https://example.org/paper", "paper.pdf", "source.url: expected https://..., found 'paper.pdf'."),
        ("2026-01-02", "2999-01-02", "source.retrieved: 2999-01-02 lies in the future."),
        ("model: maker/rival", "model: maker/rival\nexpires: 2026-01-02", "expired on 2026-01-02; look its numbers up"),
    ],
)
def test_each_fault_of_a_baseline_is_found(rival, before, after, message):
    assert faults("rival") == ""
    edit(rival, before, after)
    assert message in faults("rival")


def test_a_gate_wants_a_published_number_for_each_of_its_tasks(shelf, rival):
    gate = shelf / "eval" / "gates" / "better.yaml"
    edit(gate, "{against: base, ratio: 2.0}", "{against: baseline, baseline: rival}")
    assert faults("better") == ""
    edit(rival, "task: sums", "task: products")
    assert "better.yaml: baseline rival has no pass@1 of task 'sums'; it has products." in faults("better")
    edit(rival, "metric: pass@1", "metric: cons@64")
    assert "has no pass@1 of task 'sums'; it has no pass@1 at all." in faults("better")
    edit(gate, "baseline: rival", "baseline: rivel")
    assert "did you mean 'rival'?" in faults("better")


def write_weights(path, *, length: int) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * length)


def test_weights_that_ship_with_a_card_are_there_and_whole(shelf):
    folder = shelf / "students" / "small"
    edit(folder / "card.yaml", "model: maker/small", "model: .")
    assert "has no config.json" in faults("small")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert "has no *.safetensors" in faults("small")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    assert "not a whole safetensors file" in faults("small")
    write_weights(folder / "model.safetensors", length=7)
    assert "not a whole safetensors file" in faults("small")
    write_weights(folder / "model.safetensors", length=8)
    assert faults("small") == ""


def test_one_broken_file_does_not_hide_the_others(shelf):
    edit(shelf / "teachers" / "big.yaml", "name: big", "name: x")
    edit(shelf / "eval" / "gates" / "better.yaml", "name: better", "name: x")
    assert [fault["kind"] for fault in check(["big", "better"])["faults"]] == ["teachers", "gates"]
