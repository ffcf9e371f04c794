"""Packed = unpacked, for every attention implementation that runs here; and a check that would see a leak."""

from __future__ import annotations

import random

import pytest
import torch

from distill.recipes import Training
from distill.train.documents import Document
from distill.train.packing import IGNORED, collate_rows, epoch_rows, pack

OFFERED = Training.model_fields["attn_implementation"].annotation.__args__
PAD = 0


def rows_of(documents: list[Document], row_length: int) -> list[list[Document]]:
    packed = pack([len(document.input_ids) for document in documents], row_length, seed=3, epoch=0)
    return [[documents[index] for index in row] for row in packed]


def skip_unless_it_runs_here(attn_implementation: str) -> None:
    if attn_implementation.startswith("flash") and not torch.cuda.is_available():
        pytest.skip(f"{attn_implementation} needs a CUDA device and its package; neither is here")


def packed_and_unpacked(model, documents: list[Document], **extra) -> tuple[float, float, float]:
    """(largest logit difference, packed loss, unpacked loss); losses are means over trained tokens."""
    rows = rows_of(documents, row_length=64)
    assert any(len(row) > 2 for row in rows)
    batch = collate_rows(rows, PAD, row_length=72)  # every row ends in padding
    assert (batch["input_ids"][:, -8:] == PAD).all()
    trained = sum(document.num_trained_tokens for document in documents)
    difference, unpacked_loss = 0.0, 0.0
    model.eval()
    with torch.no_grad():
        packed = model(**batch, **extra, use_cache=False, num_items_in_batch=torch.tensor(trained))
        for at, row in enumerate(rows):
            start = 0
            for document in row:
                alone = model(
                    **collate_rows([[document]], PAD), use_cache=False, num_items_in_batch=torch.tensor(trained)
                )
                end = start + len(document.input_ids)
                difference = max(difference, (packed.logits[at, start:end] - alone.logits[0]).abs().max().item())
                unpacked_loss += alone.loss.item()
                start = end
    return difference, packed.loss.item(), unpacked_loss


def offered() -> list:
    """Every (architecture, attention): flex attention is compiled, which takes minutes, so once and marked slow."""
    return [
        pytest.param(kind, name, marks=[pytest.mark.slow] if name == "flex_attention" else [])
        for name in OFFERED
        for kind in ("qwen2", "llama", "deepseek_v3")
        if name in ("eager", "sdpa") or kind == "qwen2"
    ]


@pytest.mark.parametrize(("kind", "attn_implementation"), offered())
def test_packed_equals_unpacked(make_model, make_documents, kind, attn_implementation):
    skip_unless_it_runs_here(attn_implementation)
    model = make_model(kind, attn_implementation=attn_implementation)
    difference, packed_loss, unpacked_loss = packed_and_unpacked(model, make_documents(12))
    assert difference < 1e-5
    assert packed_loss == pytest.approx(unpacked_loss, abs=1e-5)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_the_check_sees_a_leak(make_model, make_documents, attn_implementation):
    """With a mask of ones beside the positions, transformers lets documents read each other: the check must fail."""
    model = make_model("qwen2", attn_implementation=attn_implementation)
    batch_shape = collate_rows(rows_of(make_documents(12), 64), PAD, row_length=72)["input_ids"].shape
    ones = torch.ones(batch_shape, dtype=torch.long)
    difference, packed_loss, unpacked_loss = packed_and_unpacked(model, make_documents(12), attention_mask=ones)
    assert difference > 1e-3
    assert abs(packed_loss - unpacked_loss) > 1e-5


def test_gradients_are_the_same_packed_and_unpacked(make_model, make_documents):
    documents = make_documents(8)
    trained = torch.tensor(sum(document.num_trained_tokens for document in documents))
    gradients = []
    for rows in (rows_of(documents, 64), [[document] for document in documents]):
        model = make_model()
        model(**collate_rows(rows, PAD), use_cache=False, num_items_in_batch=trained).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_rows_hold_every_document_once_and_never_too_much(seed):
    rng = random.Random(seed)
    row_length = rng.randint(5, 100)
    lengths = [rng.randint(1, row_length) for _ in range(rng.randint(1, 200))]
    rows = pack(lengths, row_length, seed=seed, epoch=0)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= row_length for row in rows)
    # Best fit leaves at most one row half empty: two such rows would have been one.
    assert sum(2 * sum(lengths[index] for index in row) <= row_length for row in rows) <= 1


def test_rows_depend_on_seed_and_epoch_only():
    lengths = [random.Random(0).randint(1, 50) for _ in range(100)]
    first = pack(lengths, 64, seed=1, epoch=0)
    assert pack(lengths, 64, seed=1, epoch=0) == first
    assert pack(lengths, 64, seed=1, epoch=1) != first
    assert pack(lengths, 64, seed=2, epoch=0) != first


@pytest.mark.parametrize("rows_per_step", [1, 2, 7, 8, 1000])
def test_an_epoch_trains_every_document_whatever_the_step(make_documents, rows_per_step):
    documents = make_documents(40)
    rows = epoch_rows(documents, 64, 2, rows_per_step, seed=5)
    assert len(rows) % rows_per_step == 0
    trained = sorted(index for row in rows for index in row)
    assert trained == sorted(2 * list(range(40)))
    assert sum(not row for row in rows) < rows_per_step, "only the last step is filled up"


def test_a_fractional_epoch_is_cut_short(make_documents):
    documents = make_documents(200)
    whole = epoch_rows(documents, 64, 1, 1, seed=5)
    assert len(epoch_rows(documents, 64, 0.5, 1, seed=5)) == round(len(whole) / 2)
    one_and_a_half = epoch_rows(documents, 64, 1.5, 1, seed=5)
    assert one_and_a_half[: len(whole)] == whole
    assert abs(len(one_and_a_half) - 1.5 * len(whole)) <= 2


def test_collate_places_labels_and_positions():
    rows = [[Document("a", (11, 12, 13), 1), Document("b", (21, 22, 23, 24), 3)], [Document("c", (31, 32), 0)]]
    batch = collate_rows(rows, 99)
    assert batch["input_ids"].tolist() == [[11, 12, 13, 21, 22, 23, 24], [31, 32, 99, 99, 99, 99, 99]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3], [0, 1, 0, 0, 0, 0, 0]]
    no = IGNORED
    assert batch["labels"].tolist() == [[no, 12, 13, no, no, no, 24], [no, 32, no, no, no, no, no]]
    assert "attention_mask" not in batch


def test_trained_tokens_are_the_labels():
    rng = random.Random(1)
    documents = [Document(str(n), tuple(range(3, 3 + n)), rng.randint(0, n)) for n in range(2, 30)]
    batch = collate_rows([[document] for document in documents], PAD)
    counted = (batch["labels"] != IGNORED).sum(dim=1).tolist()
    assert counted == [document.num_trained_tokens for document in documents]


def test_rows_are_padded_to_a_multiple(make_documents):
    documents = make_documents(3)
    plain, padded = (collate_rows([[document] for document in documents], PAD, multiple_of=m) for m in (1, 16))
    longest = max(len(document.input_ids) for document in documents)
    assert plain["input_ids"].shape[1] == longest
    assert padded["input_ids"].shape[1] == -(-longest // 16) * 16
    assert torch.equal(padded["input_ids"][:, :longest], plain["input_ids"])
    assert (padded["labels"][:, longest:] == IGNORED).all()


def test_a_row_without_documents_has_no_loss_and_no_gradient(make_model):
    model = make_model()
    batch = collate_rows([[]], PAD)
    assert batch["input_ids"].shape == (1, 1)
    loss = model(**batch, use_cache=False, num_items_in_batch=torch.tensor(5)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())
