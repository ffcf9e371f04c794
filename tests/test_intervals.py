"""Intervals of counted shares (`distill/intervals.py`)."""

from __future__ import annotations

import pytest

from distill.intervals import wilson_interval


def test_wilson_interval_of_the_textbook():
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert wilson_interval(0, 0) == (0.0, 1.0)
