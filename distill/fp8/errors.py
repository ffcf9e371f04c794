"""The error of this package; it stands alone, so `distill.train` turns it into the toolkit's own TrainingError."""

from __future__ import annotations


class Fp8Error(Exception):
    """What cannot be trained in FP8, and what to do about it: one message, in short sentences."""
