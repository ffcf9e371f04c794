"""Teachers from the command line: what is paired with what, and what is refused before anything is asked."""

from __future__ import annotations

import pytest

from distill.compare.teachers import teacher_specs
from distill.errors import CatalogError, ConfigError


def shown(*given) -> list[tuple[str | None, str | None, str | None]]:
    return [(spec.card.name if spec.card else None, spec.base_url, spec.served) for spec in teacher_specs(*given)]


def test_models_go_with_addresses():
    assert shown(["http://a", "http://b"], ["x", "y"], []) == [(None, "http://a", "x"), (None, "http://b", "y")]
    assert shown(["http://a", "http://b"], ["x"], []) == [(None, "http://a", "x"), (None, "http://b", "x")]
    assert shown(["http://a", "http://b"], [], []) == [(None, "http://a", None), (None, "http://b", None)]


def test_cards():
    assert shown(["http://a"], ["deepseek-r1"], ["tiny", "tiny=http://c"]) == [
        ("deepseek-r1", "http://a", None),
        ("tiny", None, None),
        ("tiny", "http://c", None),
    ]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (([], [], []), ConfigError, "found 0 teachers, expected two or more"),
        (([], [], ["tiny"]), ConfigError, "found 1 teachers, expected two or more"),
        ((["http://a"], ["x", "y"], ["tiny"]), ConfigError, "found 2 names for 1 --base-url"),
        (([], ["x"], ["tiny", "tiny=http://a"]), ConfigError, "found 1 names for 0 --base-url"),
        ((["http://a", "http://a"], ["x"], []), ConfigError, "given twice: x at http://a"),
        (([], [], ["tiny", "tiny"]), ConfigError, "given twice: tiny at this machine"),
        (([], [], ["tiny", "deepsek-r1"]), CatalogError, "did you mean 'deepseek-r1'"),
    ],
)
def test_what_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        teacher_specs(*given)
