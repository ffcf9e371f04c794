"""Two real processes (gloo, CPU) against one: DDP, FSDP2, DeepSpeed ZeRO 1 to 3, and the probe's agreement."""

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from two_processes import one_process

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def run(case, folder):
    """Both processes' results."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = dict(os.environ, OMP_NUM_THREADS="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2")
    variables |= dict(LOCAL_SIZE="2", CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu")
    variables["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE), variables.get("PYTHONPATH", "")])
    logs = [folder / f"{case}-{rank}.log" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "two_processes.py"), case, str(folder)],
            env=variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=logs[rank].open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        codes = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)
    return [torch.load(folder / f"{case}-{rank}.pt", weights_only=False) for rank in range(2)]


expected = cache(lambda: one_process(None))


def assert_as_one_process(found):
    losses, parameters = expected()
    assert found[0] == losses
    assert found[1].keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert torch.equal(found[1][name], parameter), name


@pytest.mark.parametrize("case", ["ddp", "fsdp2"])
def test_the_parameters_are_those_of_one_process(case, tmp_path):
    """To the bit: gradients of two halves have one order of addition. FSDP2 keeps no FP8 copy of what it shards."""
    for found in run(case, tmp_path):
        assert_as_one_process(found)


def test_deepspeed_zero(tmp_path):
    """float32 to the bit; with DeepSpeed's bf16 (weights and their gradients in BF16) all stages alike."""
    pytest.importorskip("deepspeed")
    for found in run("zero", tmp_path):
        for stage in (1, 2, 3):
            assert_as_one_process(found[stage, "fp32"])
            losses, parameters = found[stage, "bf16"]
            assert losses == found[1, "bf16"][0]
            assert losses[0] == pytest.approx(expected()[0][0], rel=5e-3) and losses[2] < losses[1] < losses[0]
            for name, parameter in found[1, "bf16"][1].items():
                assert torch.equal(parameters[name], parameter), name


def test_both_processes_probe_and_promote_alike(tmp_path):
    left, right = run("probe", tmp_path)
    assert left[0] == right[0] and len(left[0]) == 2 + 14
