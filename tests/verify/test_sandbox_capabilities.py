"""What this machine allows, and refusing where it allows nothing (`distill/verify/sandbox_capabilities.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from distill.records import Problem, Sample
from distill.verify import code, sandbox_capabilities
from distill.verify.base import verify
from distill.verify.sandbox import SandboxFault, SandboxUnavailable
from distill.verify.sandbox_capabilities import WAYS, isolation_here

TESTS = {"kind": "stdin", "cases": [{"input": "", "output": "1"}]}


@pytest.fixture
def no_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(source: str, **given: object) -> None:
        raise SandboxFault(f"sandbox: the program was not run: unshare: not permitted ({given['isolation']})")

    monkeypatch.setattr(sandbox_capabilities, "run_program", refuse)
    caches = (isolation_here, sandbox_capabilities.sandbox_capabilities, code.version)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def test_the_report_has_every_way_and_one_that_is_used() -> None:
    found = sandbox_capabilities.sandbox_capabilities()
    assert tuple(found.ways) == WAYS
    assert found.isolation is None or found.ways[found.isolation] == ""
    assert f"used: {found.isolation or 'none'}" in str(found)


def test_without_a_way_nothing_is_run_and_the_reasons_are_named(
    no_way: None, make_problem: Callable[..., Problem], make_sample: Callable[..., Sample]
) -> None:
    with pytest.raises(SandboxUnavailable, match=r"cannot be locked in.*unshare: not permitted \(landlock\)") as caught:
        verify(make_problem(None, verifier="code", tests=TESTS), make_sample("```python\nprint(1)\n```"))
    assert caught.value.exit_code == 6


def test_running_without_isolation_is_asked_for_and_shows_in_the_version(
    no_way: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILL_SANDBOX", "unisolated")
    assert isolation_here() == "unisolated"
    assert code.version().endswith("+unisolated")


def test_another_value_of_the_setting_is_refused(no_way: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_SANDBOX", "yes")
    with pytest.raises(SandboxUnavailable, match="found 'yes'; allowed: unisolated"):
        isolation_here()
