"""The program's side: loads the model's code from solution.py, then answers calls until the channel closes.

Runs inside the sandbox. What it holds is the program's own code and the arguments of calls, never what is expected.
"""

from __future__ import annotations

import types
from typing import Any

from .wire import decode, encode, receive, send

CHANNEL = 3


def main() -> None:
    try:
        with open("solution.py", encoding="utf-8") as file:
            code = compile(file.read(), "solution.py", "exec")
        namespace: dict[str, Any] = {"__name__": "solution"}
        exec(code, namespace)
    except (Exception, SystemExit) as error:
        send(CHANNEL, {"raised": describe(error)})
        return
    server = _Server(namespace)
    send(CHANNEL, {"names": server.names(), "modules": server.modules()})
    while True:
        try:
            message = receive(CHANNEL)
        except EOFError:
            return
        send(CHANNEL, server.answer(message))


def describe(error: BaseException) -> list[Any]:
    """Names of its classes, nearest first, and its text."""
    return [[kind.__name__ for kind in type(error).__mro__], str(error)[:300]]


class _Server:
    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.kept: list[Any] = []

    def names(self) -> list[str]:
        return [
            name
            for name, value in self.namespace.items()
            if not (name.startswith("__") or isinstance(value, types.ModuleType))
        ]

    def modules(self) -> dict[str, str]:
        found = {name: value for name, value in self.namespace.items() if isinstance(value, types.ModuleType)}
        return {name: value.__name__ for name, value in found.items()}

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            target = self._target(message)
            if "args" in message:
                arguments = decode(message["args"], self.kept.__getitem__)
                named = decode(message.get("named", {"d": []}), self.kept.__getitem__)
                target = target(*arguments, **named)
            return {"value": encode(target, self._keep)}
        except (Exception, SystemExit) as error:
            return {"raised": describe(error)}

    def _target(self, message: dict[str, Any]) -> Any:
        if "object" in message:
            return getattr(self.kept[message["object"]], message["attribute"])
        name = message["name"]
        if name not in self.namespace and "Solution" in self.namespace:
            return getattr(self.namespace["Solution"](), name)
        return self.namespace[name]

    def _keep(self, value: Any) -> dict[str, int]:
        self.kept.append(value)
        return {"r": len(self.kept) - 1}
