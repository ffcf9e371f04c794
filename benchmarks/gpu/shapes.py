"""True shapes of the students that are measured, the products of one decoder layer, and what a run is set to.

`STUDENTS` are Qwen2.5's own configurations (config.json of Qwen/Qwen2.5-1.5B, -7B, -14B, -32B). Where a whole student
does not fit beside its optimizer, `slices` says how many layers of it are trained, widths and vocabulary being true.
`TOYS` carry the same names and nothing else of them: they let every line run on a CPU.

Letters: T tokens, N outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


class Product(NamedTuple):
    """out [rows, columns] = a [rows, inner] times the transpose of b [columns, inner]."""

    linear: str
    kind: str
    rows: int
    columns: int
    inner: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.columns * self.inner


class Student(NamedTuple):
    """One dense student; slices: layers of a shallow and of a deep slice, empty where the whole student fits."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    slices: tuple[int, ...] = ()

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    def linears(self) -> dict[str, tuple[int, int]]:
        """(N, K) of the four products of a layer, inputs that are shared counted once."""
        qkv = (self.heads + 2 * self.key_heads) * self.head_dim
        return {
            "qkv": (qkv, self.hidden),
            "o": (self.hidden, self.attention_width),
            "gate_up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }

    def matmul_parameters(self, layers: int) -> int:
        """Parameters that are multiplied with every token: linears of so many layers, and the head; no embedding."""
        return layers * sum(n * k for n, k in self.linears().values()) + self.vocabulary * self.hidden

    def products(self, tokens: int) -> list[Product]:
        """The twelve products of one layer's forward and backward."""
        found = []
        for linear, (n, k) in self.linears().items():
            found.append(Product(linear, "fprop", tokens, n, k))
            found.append(Product(linear, "dgrad", tokens, k, n))
            found.append(Product(linear, "wgrad", n, k, tokens))
        return found

    def config(self, layers: int, attention: str, vocabulary: int | None = None) -> Any:
        """transformers' configuration with so many layers and this attention implementation."""
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=vocabulary or self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            max_position_embeddings=32768,
            rms_norm_eps=1e-6,
            tie_word_embeddings=self.tied,
            use_cache=False,
            attn_implementation=attention,
        )


STUDENTS = {
    student.name: student
    for student in (
        Student("1.5B", 1536, 8960, 28, 12, 2, 128, 151936, True),
        Student("7B", 3584, 18944, 28, 28, 4, 128, 152064, False, (2, 6)),
        Student("14B", 5120, 13824, 48, 40, 8, 128, 152064, False, (2, 6)),
        Student("32B", 5120, 27648, 64, 40, 8, 128, 152064, False, (1, 3)),
    )
}
TOYS = {
    "1.5B": Student("1.5B", 256, 384, 2, 2, 1, 128, 512, True),
    "7B": Student("7B", 256, 384, 4, 2, 1, 128, 512, False, (1, 2)),
}


@dataclass(frozen=True)
class Setting:
    """What one run measures, and on what."""

    device: torch.device
    toy: bool = False
    allow_fallback: bool = False
    """A better FP8 kernel of the device failed its check: recipes take the next one, and the results say so."""

    @property
    def students(self) -> Mapping[str, Student]:
        return TOYS if self.toy else STUDENTS

    @property
    def tokens(self) -> int:
        """T of products, quantisers and single layers."""
        return 192 if self.toy else 16384

    @property
    def row_tokens(self) -> tuple[int, int, int]:
        """Packed tokens of a training step: short, middle, long."""
        return (96, 192, 320) if self.toy else (4096, 16384, 32768)

    @property
    def turns(self) -> tuple[int, int]:
        """Turns of each variant, and timed training steps in each."""
        return (2, 1) if self.toy else (2, 3)

    @property
    def repeats(self) -> int:
        """Timed calls of one kernel or one layer."""
        return 2 if self.toy else 20

    def recipe(self, name: str, whole: bool) -> Any:
        """An FP8 recipe as it is shipped, but for what a toy or a failed kernel needs.

        Slices and single layers (not `whole`) are all inner layers: none of theirs is one that stays in BF16.
        """
        from distill.fp8 import get_recipe

        changes: dict[str, Any] = {"allow_fallback": True} if self.allow_fallback else {}
        if self.toy:
            changes["skinny_below"] = 0.0
        if self.toy or not whole:
            changes["edge_layers_bf16"] = 0
        return get_recipe(name, **changes)
