"""Stop strings cut as lm-eval's hf model cuts, except inside a thought.

pytest tests/evaluate/test_stop_strings.py
"""

from dataclasses import replace

import pytest
from lm_eval.models.utils import postprocess_generated_text

from distill.engines.reasoning import split_reasoning
from distill.evaluate.problem_task import sample_of_text
from distill.evaluate.stop_strings import finished_text
from distill.records import Problem

PROBLEM = Problem("p", "1 + 1?", "2", "math", "sums", "math", "own", "MIT", {})
STOPS = ["Question:", "</s>", "\n\n"]


def sample_of(text):
    return sample_of_text(PROBLEM, text)


@pytest.mark.parametrize(
    "text",
    [
        "2",
        " 2 \n",
        "2\nQuestion: 3 + 3?\nAnswer: 6",
        "2</s>Question: more</s>",
        "Question: at once",
        "<think>\nQuestion: what is it?\n\nadd</think>\n\n2 \n\nQuestion: more",
        "<think>a</think>2",
        "in the prompt it was opened</think>\n 2</s>",
    ],
)
@pytest.mark.parametrize("until", [STOPS, ["</s>"], [], "\n\n", ["", "2"]])
def test_texts_are_those_of_lm_evals_hf_model(text, until):
    think_end_token = "</think>" if split_reasoning(text)[0] is not None else None
    assert finished_text(sample_of(text), until) == postprocess_generated_text(text, until, think_end_token)


def test_a_thought_without_an_end_is_no_answer():
    sample = sample_of(r"<think>it is \boxed{2}")
    assert finished_text(sample, STOPS) == ""
    assert postprocess_generated_text(sample.text, STOPS, "</think>") == sample.text  # lm-eval scores the thought


def test_a_completion_that_was_broken_off_is_no_answer():
    assert finished_text(replace(sample_of("2"), finish_reason="aborted"), STOPS) == ""
    assert finished_text(replace(sample_of("2"), finish_reason="length"), STOPS) == "2"
