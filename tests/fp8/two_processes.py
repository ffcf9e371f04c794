"""What each of two processes runs for test_distributed.py: `two_processes.py CASE FOLDER`, under torchrun's variables.

Each case trains a student on its half of a batch and writes what came out, for the test to hold against one process.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from models import calls, loss_of, recipe, student, token_ids
from torch.nn.parallel import DistributedDataParallel

from distill.fp8 import convert_to_fp8, receipt, shadow_probe, state_of

STEPS = 3
LEARNING_RATE = 1e-2


def batch(rank):
    return token_ids(rows=4)[2 * rank : 2 * rank + 2]


def ddp(folder, rank):
    model = student()
    convert_to_fp8(model, recipe())
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(parallel, batch(rank))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(mean(loss))
    receipt(parallel).check()
    return losses, {name: p.detach() for name, p in model.named_parameters()}


def fsdp2(folder, rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh("cpu", (2,))
    model = student()
    state = convert_to_fp8(model, recipe())
    loss_of(model, batch(rank))  # a cache made before sharding must not be used after it
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert isinstance(model.model.layers[0], FSDPModule)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(model, batch(rank))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(mean(loss))
    groups = [linear.group for linear in state.linears.values()]
    groups += [group for layer in state.layers.values() for group in (layer.fp8.qkv, layer.fp8.gate_up)]
    assert all(group._operand is None for group in groups), "a whole copy of the weights was kept"
    receipt(model).check()
    assert calls("fprop") == 8 * (STEPS + 1)
    return losses, {name: p.full_tensor().detach() for name, p in model.named_parameters()}


def zero(folder, rank, leaf=True):
    """By stage and dtype: (losses, parameters); bf16 has float32 master weights inside DeepSpeed."""
    import deepspeed

    found = {}
    for dtype in ("fp32", "bf16"):
        for stage in (1, 2, 3):
            model = student()
            convert_to_fp8(model, recipe())
            if stage == 3 and leaf:
                # A fused layer's function reads the weights of its children: they are gathered with the layer.
                deepspeed.utils.set_z3_leaf_modules(model, list({type(layer) for layer in model.model.layers}))
            found[stage, dtype] = train_zero(deepspeed, model, rank, stage, dtype)
    return found


def train_zero(deepspeed, model, rank, stage, dtype):
    configuration = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0, "stage3_max_reuse_distance": 0},
        "bf16": {"enabled": dtype == "bf16"},
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=configuration)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(engine, batch(rank))
        engine.backward(loss)
        engine.step()
        losses.append(mean(loss))
    receipt(engine).check()
    if stage < 3:
        return losses, {name: p.detach().float().clone() for name, p in model.named_parameters()}
    state = state_of(engine)
    groups = [linear.group for linear in state.linears.values()]
    groups += [group for layer in state.layers.values() for group in (layer.fp8.qkv, layer.fp8.gate_up)]
    assert all(group._operand is None for group in groups), "a whole copy of the weights was kept"
    assert all(p.numel() == 0 for p in model.parameters()), "weights were not released after the step"
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return losses, {name: p.detach().float().clone() for name, p in model.named_parameters()}


def probe(folder, rank):
    """Each process has its own data; both must reach the same figures and the same promotions."""
    from distill.fp8 import ops

    model = student()
    state = convert_to_fp8(model, recipe())
    parallel = DistributedDataParallel(model)
    damaged = "model.layers.1.mlp.down_proj"
    right = ops.matmul

    def wrong(a, a_scales, b, b_scales, out_dtype, label):
        y = right(a, a_scales, b, b_scales, out_dtype, label)
        if label.endswith(f"{damaged}/wgrad") and rank == 0:
            y = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        return y

    ops.matmul = wrong
    loss_of(parallel, batch(rank)).backward()
    before = [p.grad.clone() for p in model.parameters()]
    result = shadow_probe(parallel, lambda: loss_of(model, batch(rank)), step=1, promote_below=0.9)
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True))
    assert result.promoted == [damaged] == list(state.bf16)
    parallel.zero_grad()
    loss_of(parallel, batch(rank)).backward()
    return [result.loss_fp8, result.loss_bf16, *result.cosines.values()], {}


def one_process(folder):
    """The same training on the whole batch, in one process: (losses, parameters) of each half's mean."""
    model = student()
    convert_to_fp8(model, recipe())
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(STEPS):
        halves = [loss_of(model, batch(rank)) for rank in range(2)]
        (sum(halves) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(sum(halves).detach()) / 2)
    return losses, {name: p.detach() for name, p in model.named_parameters()}


def mean(loss):
    total = loss.detach().float().clone()
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


CASES = {"ddp": ddp, "fsdp2": fsdp2, "zero": zero, "probe": probe}

if __name__ == "__main__":
    torch.set_num_threads(1)
    case, folder = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.save(CASES[case](folder, rank), folder / f"{case}-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
