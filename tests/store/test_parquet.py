"""The dataset: what went in comes out, here and through `datasets`; half a dataset is never read or left behind."""

from __future__ import annotations

import pytest

from distill.errors import EXIT_INFRASTRUCTURE, InfrastructureError, TraceError
from distill.store.parquet import read_drops, read_traces, write_dataset


def drop(row, number, reason="wrong"):
    return row(
        number, dropped_by="verified", reason=reason, detail="d", outcome="wrong", answer=None, final_answer=None
    )


def test_rows_come_back_in_order_over_several_shards(tmp_path, row):
    kept = [row(number) for number in range(7)]
    write_dataset(tmp_path / "dataset", kept, [drop(row, 9)], "# A card\n", rows_per_shard=3)
    names = sorted(path.name for path in (tmp_path / "dataset").iterdir())
    assert names == ["README.md", "drops.parquet", *(f"train-0000{shard}-of-00003.parquet" for shard in range(3))]
    assert read_traces(tmp_path / "dataset") == kept
    assert read_drops(tmp_path / "dataset") == [drop(row, 9)]


def test_datasets_loads_traces_without_drops(tmp_path, row, monkeypatch):
    import datasets

    directory = tmp_path / "dataset"
    write_dataset(directory, [row(number) for number in range(5)], [drop(row, 9)], "# A card\n", rows_per_shard=2)
    loaded = datasets.load_dataset(str(directory), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].to_list() == [row(number) for number in range(5)]
    dropped = datasets.load_dataset(str(directory), "drops", cache_dir=str(tmp_path / "cache"))
    assert dropped["dropped"]["reason"] == ["wrong"]


def test_a_dataset_without_traces_still_shows_its_drops(tmp_path, row):
    write_dataset(tmp_path / "dataset", [], [drop(row, 1)], "# A card\n")
    assert read_traces(tmp_path / "dataset") == [] and len(read_drops(tmp_path / "dataset")) == 1


def test_a_second_write_takes_the_place_of_the_first(tmp_path, row):
    directory = tmp_path / "dataset"
    write_dataset(directory, [row(number) for number in range(9)], [], "# Old\n", rows_per_shard=2)
    write_dataset(directory, [row(1)], [], "# New\n", rows_per_shard=2)
    assert read_traces(directory) == [row(1)] and "# New" in (directory / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_failed_write_leaves_the_old_dataset(tmp_path, row):
    directory = tmp_path / "dataset"
    write_dataset(directory, [row(1)], [], "# Old\n")
    incomplete = row(2)
    del incomplete["reasoning"], incomplete["seed"]
    for bad, message in (
        (incomplete, "row key-2 lacks reasoning, seed"),
        (row(2, seed="x"), "does not fit its column"),
    ):
        with pytest.raises(TraceError, match=message):
            write_dataset(directory, [bad], [], "# New\n")
    assert read_traces(directory) == [row(1)]
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_the_same_rows_make_the_same_bytes(tmp_path, row):
    for name in ("one", "two"):
        write_dataset(tmp_path / name, [row(number) for number in range(50)], [drop(row, 99)], "# A card\n")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_missing_incomplete_and_damaged_datasets(tmp_path, row):
    with pytest.raises(TraceError, match="Curate the harvest first"):
        read_traces(tmp_path)
    with pytest.raises(TraceError, match="Curate the harvest first"):
        read_drops(tmp_path)
    directory = tmp_path / "dataset"
    write_dataset(directory, [row(number) for number in range(4)], [], "# A card\n", rows_per_shard=2)
    first, second = sorted(directory.glob("train-*"))
    content = first.read_bytes()
    first.write_bytes(content[:100])
    with pytest.raises(TraceError, match="damaged or no Parquet file"):
        read_traces(directory)
    first.write_bytes(content)
    second.unlink()
    with pytest.raises(TraceError, match="found 1 shards, names say 00002"):
        read_traces(directory)


def test_another_programs_parquet_file(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(TraceError, match="lacks the columns answer, attempts, completion"):
        read_traces(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path, row):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TraceError, match=r"cannot be written .Not a directory"):
        write_dataset(tmp_path / "file" / "dataset", [row(1)], [], "# A card\n")


def test_a_disk_that_is_really_full(small_disk, row):
    import random

    directory, chance = small_disk.path / "dataset", random.Random(0)
    write_dataset(directory, [row(1)], [], "# A card\n")
    large = [row(number, completion=chance.randbytes(4000).hex()) for number in range(500)]
    with pytest.raises(InfrastructureError, match=r"the disk is full. Free space and run again") as caught:
        write_dataset(directory, large, [], "# A card\n")
    assert caught.value.exit_code == EXIT_INFRASTRUCTURE
    assert read_traces(directory) == [row(1)]
    assert [path.name for path in small_disk.path.iterdir()] == ["dataset"]


def test_lone_surrogates_are_written_readably(tmp_path, row):
    messages = [{"role": "user", "content": "\ud83d"}]
    write_dataset(tmp_path / "dataset", [row(1, completion="\ud83d", messages=messages)], [], "# A card\n")
    (found,) = read_traces(tmp_path / "dataset")
    assert found["completion"] == "?" and found["messages"][0]["content"] == "?"
