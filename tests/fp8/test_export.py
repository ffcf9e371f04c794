"""A trained student becomes a BF16 or a block-FP8 folder, transformers reads it right, and the figures are true."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, PreTrainedTokenizerFast, Qwen3Config
from transformers.integrations.finegrained_fp8 import FP8Linear, replace_with_fp8_linear
from transformers.utils.quantization_config import FineGrainedFP8Config

from distill.engines.local import load_model
from distill.errors import TrainingError
from distill.fp8.errors import Fp8Error
from distill.fp8.export import block_fp8_state_dict, dequantize_state_dict
from distill.fp8.quantize import BLOCK, E4M3, dequantize, quantize_blocks
from distill.train.export import export_bf16, export_block_fp8, load_dequantized, uneven_linears
from distill.train.export_card import ExportFigures
from distill.train.logits import logit_difference

TINY = Path(__file__).parents[2] / "students" / "tiny"


@pytest.fixture(scope="module")
def student():
    return load_model(TINY, name="tiny", dtype="float32")


@pytest.fixture(scope="module")
def tokenizer(student):
    return student[1]


@pytest.fixture(scope="module")
def input_ids(tokenizer) -> list[list[int]]:
    texts = ["What is 12 plus 30?", "Find the greatest common divisor of 12 and 18.", "7"]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.fixture(scope="module")
def exported(student, input_ids, tmp_path_factory) -> tuple[Path, ExportFigures]:
    folder = tmp_path_factory.mktemp("export") / "fp8"
    return folder, export_block_fp8(*student, folder, input_ids=input_ids, card="# Tiny\n")


def small_model(kind: type, hidden: int, width: int, **settings):
    torch.manual_seed(3)
    config = kind(
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=448,
        **{"tie_word_embeddings": False} | settings,
    )
    return AutoModelForCausalLM.from_config(config).float()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def codes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8)


@pytest.mark.parametrize("rows, columns", [(128, 128), (256, 384), (1, 1), (5, 200), (129, 127), (300, 130)])
def test_state_dict_holds_the_quantisers_bits_without_padding(rows, columns):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 2, columns)
    bias = torch.linspace(-1, 1, rows)
    stored = block_fp8_state_dict({"a.weight": weight, "a.bias": bias, "steps": torch.tensor(3)}, ["a"])
    expected = quantize_blocks(weight)
    assert list(stored) == ["a.weight", "a.weight_scale_inv", "a.bias", "steps"]
    assert stored["a.weight"].dtype == E4M3 and stored["a.weight"].shape == (rows, columns)
    assert torch.equal(codes(stored["a.weight"]), codes(expected.codes)[:, :columns])
    assert stored["a.weight_scale_inv"].dtype == torch.float32
    assert stored["a.weight_scale_inv"].shape == (-(-rows // BLOCK), -(-columns // BLOCK))
    assert stored["a.bias"].dtype == torch.bfloat16 and stored["steps"].dtype == torch.int64
    restored = dequantize_state_dict(stored, torch.float32)
    assert list(restored) == ["a.weight", "a.bias", "steps"]
    assert torch.equal(restored["a.weight"], dequantize(expected, columns))
    # a normal code is within 2^-4 of the number, a subnormal one within half of the smallest, 2^-9
    scale = stored["a.weight_scale_inv"].repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:rows, :columns]
    allowed = torch.maximum(weight.abs() * 2**-4, scale * 2**-10) * (1 + 1e-5)
    assert ((restored["a.weight"] - weight).abs() <= allowed).all()


def test_a_block_by_hand():
    """amax 896 makes the scale 2: 1.0 is stored as 0.5, 896 as 448, and 35 / 2 = 17.5 falls between 16 and 18."""
    weight = torch.zeros(200, 130)
    weight[0, 0], weight[1, 1], weight[2, 2], weight[199, 129] = 1.0, -896.0, 35.0, 448.0
    stored = block_fp8_state_dict({"a.weight": weight}, ["a"])
    assert stored["a.weight"].float()[[0, 1, 2, 199], [0, 1, 2, 129]].tolist() == [0.5, -448.0, 18.0, 448.0]
    assert stored["a.weight_scale_inv"][0, 0] == 2.0 and stored["a.weight_scale_inv"][1, 1] == 1.0
    assert dequantize_state_dict(stored)["a.weight"][2, 2] == 36.0


def test_tied_tensors_stay_tied():
    shared = torch.randn(4, 4)
    stored = block_fp8_state_dict({"embed.weight": shared, "head.weight": shared.detach()}, [])
    assert stored["embed.weight"].data_ptr() == stored["head.weight"].data_ptr()


@pytest.mark.parametrize(
    "state, names, message",
    [
        ({"a.weight": torch.ones(4, 4)}, ["b"], "b.weight: not in the state dict"),
        ({"a.weight": torch.ones(4, 4, 4)}, ["a"], "a.weight: found torch.float32 of shape"),
        ({"a.weight": torch.ones(4)}, ["a"], "only a float matrix"),
        ({"a.weight": torch.ones(4, 4, dtype=E4M3)}, ["a"], "found torch.float8_e4m3fn"),
        ({"a.weight": torch.ones(4, 4, dtype=torch.int64)}, ["a"], "found torch.int64"),
        ({"a.weight": torch.full((4, 4), 1e39, dtype=torch.float64)}, ["a"], "a.weight: NaN or infinite"),
        ({"n.weight": torch.tensor([1.0, torch.nan])}, [], "n.weight: 1 of 2 weights are NaN"),
        ({"n.weight": torch.tensor([3.4e38])}, [], "too large for BF16"),
    ],
)
def test_what_cannot_be_stored_is_named(state, names, message):
    with pytest.raises(Fp8Error, match=message):
        block_fp8_state_dict(state, names)


def test_a_broken_block_is_found_by_its_place():
    weight = torch.ones(300, 300)
    weight[299, 5] = torch.inf
    with pytest.raises(Fp8Error, match=r"1 of 9 blocks, first in the one at row 256, column 0"):
        block_fp8_state_dict({"a.weight": weight}, ["a"])


def test_codes_without_their_scales_are_refused():
    stored = block_fp8_state_dict({"a.weight": torch.ones(130, 4)}, ["a"])
    scales = stored.pop("a.weight_scale_inv")
    for wrong, message in [(None, "found none"), (scales[:1], r"of \(1, 1\)"), (scales.double(), "float64")]:
        broken = stored if wrong is None else stored | {"a.weight_scale_inv": wrong}
        with pytest.raises(Fp8Error, match=message):
            dequantize_state_dict(broken)
    with pytest.raises(Fp8Error, match="its weight is missing"):
        dequantize_state_dict({"a.weight_scale_inv": scales})


def test_export_of_the_embedded_student_is_deepseeks_format(student, exported):
    folder, figures = exported
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": ["lm_head"],
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    assert config["dtype"] == "bfloat16" and config["architectures"] == ["Qwen2ForCausalLM"]
    stored, state = weights_of(folder), student[0].state_dict()
    projections = [name for name in state if name.endswith("_proj.weight")]
    assert len(projections) == figures.fp8_linears == 28
    assert set(stored) == (set(state) - {"lm_head.weight"}) | {f"{name}_scale_inv" for name in projections}
    for name in projections:
        expected = quantize_blocks(state[name])
        assert torch.equal(codes(stored[name]), codes(expected.codes))
        assert torch.equal(stored[f"{name}_scale_inv"], expected.scales)
    assert {tensor.dtype for name, tensor in stored.items() if "proj.weight" not in name} == {torch.bfloat16}
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) == figures.weight_bytes


def test_transformers_reads_the_weights_that_were_stored(exported):
    folder, _ = exported
    loaded = AutoModelForCausalLM.from_pretrained(folder)  # as a user does, without a GPU
    expected = dequantize_state_dict(weights_of(folder))
    found = loaded.state_dict()
    assert loaded.dtype == torch.bfloat16 and set(found) == {*expected, "lm_head.weight"}
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_logits_stay_near_and_the_figures_are_those_of_the_folder(student, exported, input_ids):
    folder, figures = exported
    loaded = load_dequantized(folder).float()
    with torch.no_grad():
        by_hand = [[model(torch.tensor([ids])).logits for model in (student[0], loaded)] for ids in input_ids]
    difference = torch.cat([(ours - theirs).abs().flatten() for ours, theirs in by_hand])
    kl = torch.cat(
        [
            torch.nn.functional.kl_div(b.log_softmax(-1), a.log_softmax(-1), reduction="none", log_target=True).sum(-1)[
                0
            ]
            for a, b in by_hand
        ]
    )
    agreed = torch.cat([(a.argmax(-1) == b.argmax(-1))[0] for a, b in by_hand]).float()
    weights, both = figures.weights, figures.weights_and_activations
    assert weights.num_tokens == sum(len(ids) for ids in input_ids) == len(kl)
    assert weights.max_abs_difference == pytest.approx(float(difference.max()), rel=1e-4)
    assert weights.mean_abs_difference == pytest.approx(float(difference.mean()), rel=1e-4)
    assert weights.kl_nats_per_token == pytest.approx(float(kl.mean()), rel=1e-2)
    assert weights.top1_agreement == pytest.approx(float(agreed.mean()))
    assert both is not None and both.mean_abs_difference > weights.mean_abs_difference > 0
    assert 0 < weights.kl_nats_per_token < 0.02 and 0 < both.kl_nats_per_token < 0.04


def test_the_card_and_the_record_tell_the_figures(exported):
    folder, figures = exported
    card = (folder / "README.md").read_text()
    assert card.startswith("# Tiny\n\n## Export: block-fp8\n")
    for row in (figures.weights, figures.weights_and_activations):
        assert f"| {row.max_abs_difference:.4g} | {row.mean_abs_difference:.4g} | {row.kl_nats_per_token:.4g} |" in card
    assert "28 linears in block FP8" in card and str(folder.parent) not in card
    record = json.loads((folder / "export.json").read_text())
    assert ExportFigures.from_dict(record["figures"]) == figures


def test_bf16_export_is_the_rounded_model(student, exported, input_ids, tmp_path):
    figures = export_bf16(*student, tmp_path / "bf16", input_ids=input_ids)
    stored = weights_of(tmp_path / "bf16")
    assert stored and all(torch.equal(stored[name], student[0].state_dict()[name].bfloat16()) for name in stored)
    config = json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config
    assert figures.weights_and_activations is None and figures.fp8_linears == 0
    assert figures.weights.kl_nats_per_token < exported[1].weights.kl_nats_per_token / 10
    assert exported[1].weight_bytes < 0.7 * figures.weight_bytes
    model, _ = load_model(tmp_path / "bf16", name="exported")  # the toolkit's own loader reads both folders
    assert logit_difference(student[0], model, input_ids) == figures.weights
    model, _ = load_model(exported[0], name="exported")
    assert logit_difference(student[0], model, input_ids) == exported[1].weights


@pytest.mark.parametrize("settings", [{}, {"tie_word_embeddings": True}])
@pytest.mark.parametrize("kind", [Qwen3Config, LlamaConfig])
def test_sizes_off_128_stay_in_bf16_by_name(kind, settings, tokenizer, input_ids, tmp_path):
    model = small_model(kind, 128, 200, head_dim=64, attention_bias=True, **settings)
    uneven = uneven_linears(model)
    assert {name.rpartition(".")[2] for name in uneven} == {"gate_proj", "up_proj", "down_proj"}
    with pytest.raises(TrainingError, match=r"mlp\.gate_proj: 200 x 128 \(and 5 more\)"):
        export_block_fp8(model, tokenizer, tmp_path / "out", input_ids=input_ids)
    assert not (tmp_path / "out").exists()
    figures = export_block_fp8(model, tokenizer, tmp_path / "out", input_ids=input_ids, skip=uneven)
    assert figures.fp8_linears == 8 and figures.linears_kept_in_bf16 == uneven
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["modules_to_not_convert"] == ["lm_head", *uneven]
    stored = weights_of(tmp_path / "out")
    assert ("lm_head.weight" in stored) != bool(settings)
    for name, weight in model.state_dict().items():
        is_fp8 = "_proj.weight" in name and name.removesuffix(".weight") not in uneven
        assert (f"{name}_scale_inv" in stored) == is_fp8
        if is_fp8:
            expected = quantize_blocks(weight)
            assert torch.equal(codes(stored[name]), codes(expected.codes)[:, : weight.shape[1]])
            assert torch.equal(stored[f"{name}_scale_inv"], expected.scales)
    assert figures.weights.kl_nats_per_token < 1e-3


def test_transformers_still_misreads_blocks_at_an_edge(tokenizer, input_ids, tmp_path):
    """Why uneven linears are refused; when this fails, transformers has learnt it and they may be let through."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    stored = block_fp8_state_dict({"a.weight": torch.arange(200 * 128.0).view(200, 128)}, ["a"])
    read = Fp8Dequantize(None)._dequantize_one(stored["a.weight"], stored["a.weight_scale_inv"], torch.float32)
    right = dequantize_state_dict(stored, torch.float32)["a.weight"]
    assert torch.equal(read[:100], right[:100]) and not torch.equal(read, right)


def test_transformers_gpu_modules_match_the_files(exported, student):
    """Where FP8 runs, transformers replaces linears by FP8Linear: the same names, shapes and dtypes as in the files."""
    folder, _ = exported
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(student[0].config)
    replaced = replace_with_fp8_linear(
        model, config["modules_to_not_convert"], FineGrainedFP8Config(**config), pre_quantized=True
    )
    assert sum(type(part) is FP8Linear for part in replaced.modules()) == 28
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in replaced.state_dict().items() if "proj." in name}
    stored = {name: (tensor.shape, tensor.dtype) for name, tensor in weights_of(folder).items() if "proj." in name}
    assert {name: shape for name, (shape, _) in expected.items()} == {
        name: shape for name, (shape, _) in stored.items()
    }
    assert all(expected[name][1] == stored[name][1] for name in stored if "weight" in name)


def test_skip_takes_the_matrices_that_are_served_as_one(student, input_ids, tmp_path):
    skip = ["k_proj", "model.layers.3", "layers.0.mlp.down_proj"]
    figures = export_block_fp8(*student, tmp_path / "out", input_ids=input_ids, skip=skip)
    kept = set(figures.linears_kept_in_bf16)
    assert figures.fp8_linears == 28 - len(kept) == 11
    assert {f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(4) for name in "qkv"} <= kept
    assert "model.layers.0.mlp.down_proj" in kept and "model.layers.0.self_attn.o_proj" not in kept
    assert {name for name in kept if name.startswith("model.layers.3.mlp")} and len(kept) == 17
    with pytest.raises(TrainingError, match="skip: no linear is called proj"):
        export_block_fp8(*student, tmp_path / "other", input_ids=input_ids, skip=["proj"])
    with pytest.raises(TrainingError, match="leaves no linear"):
        export_block_fp8(*student, tmp_path / "other", input_ids=input_ids, skip=["model"])


def test_big_models_are_written_in_shards(student, exported, input_ids, tmp_path):
    folder = tmp_path / "shards"
    figures = export_block_fp8(*student, folder, input_ids=input_ids, max_shard_size="200KB")
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) == figures.weight_files > 3 and all((folder / name).stat().st_size < 260_000 for name in files)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index.values()) == set(files) and set(index) == set(weights_of(folder))
    one_file = weights_of(exported[0])
    assert all(torch.equal(codes(one_file[name]), codes(tensor)) for name, tensor in weights_of(folder).items())
    assert figures.weights == exported[1].weights


def test_the_same_export_is_not_written_twice_and_no_other_is_overwritten(student, tokenizer, input_ids, tmp_path):
    folder = tmp_path / "fp8"
    folder.mkdir()  # an empty one may be filled
    first = export_block_fp8(*student, folder, input_ids=input_ids)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert export_block_fp8(*student, folder, input_ids=input_ids) == first
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    other = small_model(Qwen3Config, 128, 256, head_dim=64)
    for attempt in (
        lambda: export_block_fp8(other, tokenizer, folder, input_ids=input_ids),
        lambda: export_bf16(*student, folder, input_ids=input_ids),
        lambda: export_block_fp8(*student, folder, input_ids=input_ids[:1]),
        lambda: export_bf16(*student, TINY, input_ids=input_ids),
    ):
        with pytest.raises(TrainingError, match="holds something else than this"):
            attempt()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_killed_export_leaves_no_folder(student, input_ids, tmp_path, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("distill.train.export.logit_difference", kill)
        with pytest.raises(KeyboardInterrupt):
            export_bf16(*student, tmp_path / "bf16", input_ids=input_ids)
    assert not (tmp_path / "bf16").exists()
    export_bf16(*student, tmp_path / "bf16", input_ids=input_ids)
    assert [path.name for path in tmp_path.iterdir()] == ["bf16"]


class ConvertedLinear(torch.nn.Linear):
    is_fp8 = True


def test_models_that_are_not_plain_are_refused(tokenizer, input_ids, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = small_model(Qwen3Config, 128, 256, head_dim=64)
    good = model.model.layers[1].mlp.up_proj
    for export in (export_bf16, export_block_fp8):
        model.model.layers[1].mlp.up_proj = ConvertedLinear(128, 256, bias=False)
        with pytest.raises(TrainingError, match=r"layers\.1\.mlp\.up_proj.*convert it back with revert_from_fp8 first"):
            export(model, tokenizer, tmp_path / "out", input_ids=input_ids)
        model.model.layers[1].mlp.up_proj = good
        with pytest.raises(TrainingError, match="input_ids are empty"):
            export(model, tokenizer, tmp_path / "out", input_ids=[])
        with torch.no_grad():
            good.weight[200, 100] = torch.nan
        with pytest.raises(TrainingError, match=r"model\.layers\.1\.mlp\.up_proj\.weight: .*NaN"):
            export(model, tokenizer, tmp_path / "out", input_ids=input_ids)
        with torch.no_grad():
            good.weight[200, 100] = 0.0
    experts = small_model(MixtralConfig, 128, 128, num_local_experts=2)
    with pytest.raises(TrainingError, match="mixtral is not supported; allowed are llama, qwen2, qwen3"):
        export_block_fp8(experts, tokenizer, tmp_path / "out", input_ids=input_ids)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(TrainingError, match="LoRA adapters"):
        export_bf16(adapted, tokenizer, tmp_path / "out", input_ids=input_ids)
    assert not list(tmp_path.iterdir())


def test_a_student_read_from_block_fp8_is_exported_again(exported, tokenizer, input_ids, tmp_path):
    """transformers would quantise it again on saving."""
    model = AutoModelForCausalLM.from_pretrained(exported[0])
    figures = export_bf16(model, tokenizer, tmp_path / "out", input_ids=input_ids)
    assert figures.weights.max_abs_difference == 0.0 and figures.weights.top1_agreement == 1.0
    expected = dequantize_state_dict(weights_of(exported[0]))
    stored = weights_of(tmp_path / "out")
    assert set(stored) == set(expected) and all(torch.equal(stored[name], expected[name]) for name in expected)


def test_a_model_in_fp8_modules_of_transformers_is_refused(exported, tokenizer, input_ids, tmp_path):
    config = FineGrainedFP8Config(modules_to_not_convert=["lm_head"])
    model = replace_with_fp8_linear(small_model(LlamaConfig, 128, 256), ["lm_head"], config, pre_quantized=True)
    with pytest.raises(TrainingError, match=r"layers\.0\.self_attn\.q_proj\.weight: is quantised"):
        export_bf16(model, tokenizer, tmp_path / "out", input_ids=input_ids)


def test_the_models_own_state_is_left_as_it_was(input_ids, tokenizer, tmp_path):
    model = small_model(LlamaConfig, 128, 256, head_dim=64).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_block_fp8(model, tokenizer, tmp_path / "out", input_ids=input_ids)
    assert model.training and model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert isinstance(PreTrainedTokenizerFast.from_pretrained(tmp_path / "out"), PreTrainedTokenizerFast)
