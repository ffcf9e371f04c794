"""A teacher at an address: its card's reasoning marks and price, one engine, what the probes saw on stderr.

    engine = served_teacher(load_teacher("deepseek-r1"), ["http://a:8000/v1"], None, endpoint, params, question="...")

Not covered: models that need not reason (`distill eval --base-url`), models loaded here (`local.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from distill.cards import ReasoningFormat, TeacherCard
from distill.engines.endpoint import EndpointEngine
from distill.recipes import Endpoint
from distill.records import SamplingParams


def served_teacher(
    card: TeacherCard | None,
    base_urls: Sequence[str],
    served: str | None,
    settings: Endpoint,
    params: SamplingParams,
    *,
    question: str,
) -> EndpointEngine:
    """A teacher at these addresses, probed with `question`; what the probes saw goes to stderr.

    `served` is the name to ask for (None: the card's model, else the only one); without a card the answers may mark
    their reasoning as `<think>`, or send it in a field. Raises: TeacherError where reasoning would be lost,
    InfrastructureError where nothing answers.
    """
    marks = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)
    engine = EndpointEngine.open(
        base_urls,
        name=card.name if card else None,
        served=served,
        card_model=card.model if card else "",
        reasoning=card.reasoning if card else marks,
        settings=settings,
        params=params,
        price=card.price if card else None,
        question=question,
    )
    for report in engine.probes:
        print(report, file=sys.stderr, flush=True)
    return engine
