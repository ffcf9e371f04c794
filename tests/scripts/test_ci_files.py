"""The composite action and the GitLab job: what they pin, and that their shell lines run.

There is no runner of GitHub or GitLab here: `run` and `script` lines are executed by bash as a runner would, in the
order and with the environment that the files give them; `uses` steps are only read.

pytest tests/scripts/test_ci_files.py
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "scripts" / "ci"
ACTION: dict[str, Any] = yaml.safe_load((CI / "github" / "action.yml").read_text())
GITLAB: dict[str, Any] = yaml.safe_load((CI / "gitlab.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
NAMES = re.compile(r"\b(?:GATE|DISTILL)(?:_[A-Z]+)*\b")
EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")


def texts(value: Any) -> list[str]:
    """Every string in a parsed YAML value."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def test_every_action_is_pinned_by_commit_and_says_its_version():
    lines = [line for line in (CI / "github" / "action.yml").read_text().splitlines() if "uses:" in line]
    assert len(lines) == len([step for step in STEPS if "uses" in step]) == 4
    for line in lines:
        assert re.search(r"uses: actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_every_input_is_used_and_every_name_is_known():
    found = {name for text in texts(ACTION["runs"]) for name in re.findall(r"inputs\.([\w-]+)", text)}
    assert found == set(ACTION["inputs"])
    ids = {step["id"] for step in STEPS if "id" in step}
    assert {name for text in texts(ACTION) for name in re.findall(r"steps\.([\w-]+)", text)} <= ids
    assert all("default" in each for name, each in ACTION["inputs"].items() if name != "gate")


def test_shell_lines_hold_no_expressions():
    """An input in a `run` line would be code; it goes through the environment."""
    assert not [step["run"] for step in STEPS if "${{" in step.get("run", "")]


@pytest.mark.parametrize("script", ["gate.sh", "install.sh", "evidence_key.sh"])
def test_every_setting_of_a_script_can_be_given(script):
    header = (CI / script).read_text().split("set -")[0]
    settings = {name for line in re.findall(r"^# ((?:GATE|DISTILL).*)", header, re.M) for name in NAMES.findall(line)}
    (step,) = [step for step in STEPS if script in step.get("run", "")]
    read = set(NAMES.findall((CI / script).read_text()))
    assert settings - {"DISTILL_API_KEY"} <= set(step["env"])
    assert set(step["env"]) <= read
    given = {name: value for each in STEPS for name, value in each.get("env", {}).items()}
    assert all(given[name] == value for name, value in step["env"].items())


def test_reports_and_evidence_outlive_a_failed_gate():
    by_use = {step["uses"].split("@")[0]: step for step in STEPS if "uses" in step}
    save, restore = by_use["actions/cache/save"], by_use["actions/cache/restore"]
    assert save["with"]["path"] == restore["with"]["path"]  # GitHub finds a cache by its paths, too
    assert save["with"]["key"] == restore["with"]["key"]
    assert {"gate/verdict.json", "ledger.db"} <= {
        line.removeprefix("${{ inputs.out }}/") for line in save["with"]["path"].splitlines()
    }
    for name in ("actions/cache/save", "actions/upload-artifact"):
        assert by_use[name]["if"].startswith("always() && ")
    job = GITLAB[".distill-gate"]
    assert job["cache"]["when"] == job["artifacts"]["when"] == "always"


def test_no_secret_is_an_input():
    assert not [name for name in ACTION["inputs"] if re.search("key|token|secret|password", name)]
    assert "secrets." not in (CI / "github" / "action.yml").read_text()


def resolve(text: str, values: dict[str, str]) -> str:
    return EXPRESSION.sub(lambda found: values[found[1]], text)


def run_action(check, **inputs: str) -> tuple[int, dict[str, str]]:
    """The action's `run` steps one after the other; its exit code and outputs."""
    values = {f"inputs.{name}": each.get("default", "") for name, each in ACTION["inputs"].items()}
    values |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
    files = {"GITHUB_ACTION_PATH": str(CI / "github"), "RUNNER_TEMP": str(check.folder), "GITHUB_RUN_ID": "77"}
    code = 0
    for step in STEPS:
        if "run" not in step:
            continue
        given = {name: resolve(value, values) for name, value in step["env"].items()}
        environment = {**check.environment({}), "DISTILL_VENV": "", **files, **given}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env=environment, cwd=check.folder, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        for line in (check.folder / "GITHUB_OUTPUT").read_text().splitlines():
            name, _, value = line.partition("=")
            values[f"steps.{step.get('id')}.outputs.{name}"] = value
        code = code or done.returncode
    outputs = {name: resolve(each["value"], values) for name, each in ACTION["outputs"].items()}
    return code, outputs | {"key": values["steps.evidence.outputs.key"]}


@pytest.mark.parametrize(("outcome", "code"), [("PASS", 0), ("INCONCLUSIVE", 4)])
def test_the_action_runs(check, record, outcome, code):
    record(check.folder / "here", outcome)
    venv = check.environment({})["DISTILL_VENV"]
    found = run_action(check, gate="near.yaml", out="here", venv=venv)
    key = found[1].pop("key")
    assert found == (
        code,
        {
            "outcome": outcome,
            "exit-code": str(code),
            "verdict": "here/gate/verdict.json",
            "junit": "here/gate/junit.xml",
        },
    )
    assert re.fullmatch(r"distill-gate-1-near-[0-9a-f]{16}-77-1", key)


def key_of(**settings: str) -> str:
    done = subprocess.run(
        ["bash", str(CI / "evidence_key.sh")], env={"PATH": "/usr/bin:/bin", **settings},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(line.split("=", 1) for line in done.stdout.splitlines())["prefix"]


def test_evidence_is_kept_by_gate_and_model():
    mine = key_of(GATE="no-regression", GATE_MODEL="out/student")
    assert mine == key_of(GATE="no-regression", GATE_MODEL="out/student", GITHUB_RUN_ID="1", GITHUB_SHA="b")
    others = {key_of(GATE="o1-mini", GATE_MODEL="out/student"), key_of(GATE="no-regression", GATE_MODEL="out/b")}
    assert mine not in others and len(others) == 2
    assert re.fullmatch(r"[A-Za-z0-9.-]+", key_of(GATE="my gates/a,b.yaml", GATE_MODEL="m\nn"))


@pytest.mark.parametrize(
    "served", [{"GATE_BASE_URL": "http://a/v1", "GATE_MODEL": "mine"}, {"GATE_OTHER": "checkpoint=http://a/v1#before"}]
)
def test_a_served_model_may_be_another_at_the_next_commit(served):
    """Its weights can change under one name, which distill cannot see; a version that the user gives is taken."""
    given = {"GATE": "no-regression", **served}
    assert key_of(**given, GITHUB_SHA="a") == key_of(**given, GITHUB_SHA="a", GITHUB_RUN_ATTEMPT="2")
    assert key_of(**given, GITHUB_SHA="a") != key_of(**given, GITHUB_SHA="b")
    versions = [key_of(**given, GITHUB_SHA=sha, GATE_EVIDENCE=version) for sha in "ab" for version in ("v1", "v2")]
    assert versions[:2] == versions[2:] and versions[0] != versions[1]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """These scripts as a repository, and its commit."""
    source = tmp_path / "source"
    (source / "scripts" / "ci").mkdir(parents=True)
    for path in (CI / "gate.sh", CI / "install.sh"):
        (source / "scripts" / "ci" / path.name).write_text(path.read_text())
    git(source, "init", "--quiet")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "scripts")
    return str(source), git(source, "rev-parse", "HEAD")


@pytest.mark.parametrize(("outcome", "code"), [("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_the_gitlab_job_runs(check, record, repository, outcome, code):
    job = GITLAB[".distill-gate"]
    project = check.folder / "project"
    record(project / job["variables"]["GATE_OUT"], outcome)
    url, commit = repository
    variables = {"CI_PROJECT_DIR": str(project), "DISTILL_REPOSITORY": url, "DISTILL_REF": commit, **job["variables"]}
    environment = {**check.environment(variables), "GATE": str(check.folder / "near.yaml")}
    for name in [name for name in environment if name.startswith("GITHUB")]:
        del environment[name]
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join([*job["before_script"], *job["script"]])],
        env=environment, cwd=project, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "::" not in done.stdout
    reports = job["artifacts"]["reports"]
    assert (project / reports["junit"]).exists()
    assert f"DISTILL_GATE_OUTCOME={outcome}\n" in (project / reports["dotenv"]).read_text()
    assert all((project / path).exists() for path in job["artifacts"]["paths"])
    assert (project / "distill-gate/gate/verdict.json").exists() and "distill-gate/ledger.db" in job["cache"]["paths"]


def test_gitlab_lets_only_an_inconclusive_gate_through():
    assert GITLAB[".distill-gate-neutral"] == {"extends": ".distill-gate", "allow_failure": {"exit_codes": [4]}}
    assert "allow_failure" not in GITLAB[".distill-gate"]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-\w+", GITLAB[".distill-gate"]["image"])


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({}, "light"),
        ({"GATE_MODEL": "out/student"}, "full"),
        ({"GATE_MODEL": "mine", "GATE_BASE_URL": "http://a/v1"}, "light"),
        ({"GATE_REPLAY": "runs/a/ledger.db"}, "light"),
        ({"GATE_BASE_URL": "http://a/v1", "GATE_OTHER": "checkpoint=out/before"}, "full"),
        ({"GATE_BASE_URL": "http://a/v1", "GATE_OTHER": " teacher=r.db#r1\n base=https://b/v1#base \n"}, "light"),
        ({"GATE_MODEL": "out/student", "GATE_INSTALL": "light"}, "light"),
    ],
)
def test_torch_is_installed_where_a_checkpoint_is_loaded(tmp_path, settings, chosen):
    """Without a Python to install with, it stops once it has chosen."""
    done = subprocess.run(
        ["bash", str(CI / "install.sh"), str(tmp_path / "venv")],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "false", **settings}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"install: {chosen}\nerror: distill needs Python 3.11")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"GATE_INSTALL": "some"}, "expected auto, light or full"),
        ({"DISTILL_REQUIREMENT": "distill @ git+https://example.org/distill@main"}, "a branch moves"),
        ({"DISTILL_REQUIREMENT": "distill>=0.1"}, "a branch moves"),
        ({"DISTILL_VENV": "/nowhere"}, "has no bin/distill"),
    ],
)
def test_what_is_not_pinned_is_not_installed(tmp_path, settings, message):
    done = subprocess.run(
        ["bash", str(CI / "install.sh"), str(tmp_path / "venv")],
        env={"PATH": "/usr/bin:/bin", **settings}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "venv").exists()
