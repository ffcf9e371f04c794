"""datatrove as it is at an address other than 127.0.0.1: through the openai package, with its retries."""

from __future__ import annotations

from dataclasses import replace

from datatrove_runner import draw, rows, torn
from interface import Task, main


def draw_remotely(task: Task) -> None:
    draw(replace(task, base_url=task.base_url.replace("//127.0.0.1:", "//127.0.0.2:")))


if __name__ == "__main__":
    main(draw_remotely, rows, torn)
