"""pytest tests/test_cli.py"""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from distill import __version__
from distill.cli import main
from distill.errors import GateError, InfrastructureError, InvalidRunError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def stages(monkeypatch):
    """Stands in for `distill.commands`: what is tested is what the command line does with a result."""

    def install(command: str, function) -> None:
        module = types.ModuleType("distill.commands")
        setattr(module, command, function)
        monkeypatch.setitem(sys.modules, "distill.commands", module)

    return install


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"distill {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "Did you mean 'list'?"),
        (["run"], "Missing argument 'RECIPE'"),
        (["harvest", "x"], "Missing option '--out'"),
        (["list", "techers"], "did you mean 'teachers'?"),
        (["show", "no-such-thing"], "not found in the catalogue"),
        (["plan", "no/such"], "recipe 'no/such' not found"),
        (["--catalog", "/nonexistent", "list", "tasks"], "expected a folder with"),
    ],
)
def test_bad_input_is_exit_2_and_one_message(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_errors_as_json(capsys):
    assert main(["show", "no-such-thing", "--json"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["type"], error["exit_code"]) == ("CatalogError", 2)
    assert main(["lst", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["type"] == "UsageError"


def test_list_show_check_and_plan_print_one_json_object(small_catalogue, capsys):
    for arguments, key in (
        (["list", "teachers"], "entries"),
        (["show", "small/quick", "--set", "seed=3"], "seed"),
        (["check", "big", "small/quick"], "checked"),
        (["plan", "small/quick", "--hardware", "8xh100"], "training"),
        (["run", "small/quick", "--dry-run"], "dry_run"),
    ):
        assert main([*arguments, "--json"]) == 0
        assert key in json.loads(capsys.readouterr().out)


def test_people_read_text(small_catalogue, capsys):
    assert main(["list", "recipes"]) == 0
    assert "small/quick" in capsys.readouterr().out
    assert main(["plan", "small/quick"]) == 0
    assert "estimate: true" in capsys.readouterr().out
    assert main(["check", "big"]) == 0
    assert capsys.readouterr().out == "checked 1 files: all sound\n"


def test_check_prints_every_fault_and_fails(small_catalogue, capsys):
    path = small_catalogue / "teachers" / "big.yaml"
    path.write_text(path.read_text().replace("licence", "license"))
    assert main(["check", "big"]) == 2
    captured = capsys.readouterr()
    assert "error: " in captured.err and "license: unknown field; did you mean 'licence'?" in captured.err
    assert captured.out == "checked 1 files: 1 with faults\n"


def test_catalog_option_adds_a_folder(small_catalogue, monkeypatch, capsys):
    monkeypatch.setattr("distill.catalog._added", [])
    assert main(["show", "small/quick"]) == 2
    assert main(["--catalog", str(small_catalogue), "show", "small/quick"]) == 0
    assert "seed: 1" in capsys.readouterr().out


def test_dry_run_finds_faults_before_anything_is_made(small_catalogue, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", "small/quick", "--dry-run", "--out", str(out), "--set", "seed=x"]) == 2
    assert "seed: expected a whole number" in capsys.readouterr().err
    assert main(["run", "small/quick", "--dry-run", "--out", str(out), "--set", "gate=bettr"]) == 2
    assert "did you mean 'better'?" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("code", [0, 3, 4, 5])
def test_a_stage_decides_the_exit_code(code, stages, capsys):
    stages("gate_command", lambda *arguments, **options: {"verdict": "x", "exit_code": code, "summary": "in words"})
    assert main(["gate", "g", "--out", "runs/x"]) == code
    assert capsys.readouterr().out == "in words\n"
    assert main(["gate", "g", "--out", "runs/x", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"verdict": "x", "exit_code": code}


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (GateError("wrong gate"), 2, "wrong gate"),
        (InvalidRunError("short samples"), 5, "short samples"),
        (InfrastructureError("unreachable"), 6, "unreachable"),
        (OSError(28, "No space left on device", "x.db"), 6, "x.db: the disk is full"),
        (PermissionError(13, "Permission denied", "x"), 2, "x: Permission denied. Choose another --out"),
        (KeyboardInterrupt(), 130, "interrupted; everything finished so far is saved"),
    ],
)
def test_an_error_of_a_stage_becomes_its_exit_code(error, code, message, stages, capsys):
    def fail(*arguments, **options):
        raise error

    stages("run_command", fail)
    assert main(["run", "r"]) == code
    captured = capsys.readouterr().err
    assert captured.startswith(f"error: {message}")


def test_what_a_stage_prints_does_not_mix_with_json(stages, capsys):
    def chatty(*arguments, **options):
        print("harvested 3")
        return {"accepted": 3}

    stages("run_command", chatty)
    assert main(["run", "r", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"accepted": 3}
    assert captured.err == "harvested 3\n"


def test_a_bug_keeps_its_traceback(stages):
    stages("report_command", lambda directory: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["report", "runs/x"])


def test_what_a_stage_is_given(stages, capsys):
    seen = []

    def harvest(recipe, out, **options):
        seen.append((recipe, out, options))
        return {}

    stages("harvest_command", harvest)
    arguments = ["harvest", "a/b", "--out", "o", "--base-url", "u1", "--base-url", "u2", "--set", "x=1", "--model", "m"]
    assert main(arguments) == 0
    assert seen == [
        ("a/b", Path("o"), {"overrides": ["x=1"], "base_urls": ["u1", "u2"], "model": "m", "executor": "local"})
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_unwind_and_are_told_apart(number, code):
    program = (
        "import sys, time, types\n"
        "module = types.ModuleType('distill.commands')\n"
        "def run_command(*a, **o):\n"
        "    try:\n"
        "        print('ready', flush=True); time.sleep(60)\n"
        "    finally:\n"
        "        print('saved', flush=True)\n"
        "module.run_command = run_command\n"
        "sys.modules['distill.commands'] = module\n"
        "from distill.cli import main\n"
        "sys.exit(main(['run', 'r']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == "saved\n"
    assert err == "error: interrupted; everything finished so far is saved, the same command continues.\n"
