"""The tests' side of the channel: calls the program's functions and gets data, references or its exceptions back."""

from __future__ import annotations

import builtins
from typing import Any

from .wire import decode, encode, receive, send


class ProgramError(Exception):
    """The program raised, with its own class and text."""


class ProgramGone(BaseException):
    """The program ended while an answer was awaited; not an Exception, so no test catches it."""


class CannotTell(BaseException):
    """The test needs more of the program than data."""


class Caller:
    def __init__(self, channel: int) -> None:
        self.channel = channel
        loaded = self._reply()
        self.names: list[str] = loaded["names"]
        self.modules: dict[str, str] = loaded["modules"]

    def call(self, target: dict[str, Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        message = {**target, "args": encode(args, _reference_of), "named": encode(named, _reference_of)}
        return self._ask(message)

    def get(self, target: dict[str, Any]) -> Any:
        return self._ask(target)

    def _ask(self, message: dict[str, Any]) -> Any:
        try:
            send(self.channel, message)
        except (BrokenPipeError, ConnectionResetError):
            raise ProgramGone("the program ended") from None
        reply = self._reply()
        try:
            return decode(reply["value"], lambda number: Remote(self, {"object": number}))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise ProgramError(f"an answer that cannot be read: {error}") from error

    def _reply(self) -> dict[str, Any]:
        try:
            reply = receive(self.channel)
        except EOFError:
            raise ProgramGone("the program ended") from None
        except (ValueError, RecursionError) as error:
            raise ProgramError(f"an answer that cannot be read: {error}") from error
        if not isinstance(reply, dict):
            raise ProgramError("an answer that cannot be read")
        if "raised" in reply:
            raise _same_class(reply["raised"])
        return reply


class Remote:
    """A function or an object of the program's: it can be called and its attributes read, and nothing else."""

    def __init__(self, caller: Caller, target: dict[str, Any]) -> None:
        self._caller, self._target = caller, target

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._caller.call(self._target, args, named)

    def __getattr__(self, name: str) -> Any:
        if "object" not in self._target:
            raise CannotTell(f"the test reads the attribute {name} of {self._target['name']}")
        if name.startswith("_"):
            raise CannotTell(f"the test reads the private attribute {name}")
        return Method(self._caller, {"object": self._target["object"], "attribute": name}).settle()

    def _refuse(self, *_: Any) -> Any:
        raise CannotTell("the test compares or computes with an object of the program's own class")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __bool__ = __len__ = __iter__ = __getitem__ = __contains__ = __hash__ = _refuse  # type: ignore[assignment]
    __add__ = __sub__ = __mul__ = __radd__ = __int__ = __float__ = __str__ = __repr__ = _refuse


class Method(Remote):
    def settle(self) -> Any:
        """The attribute's value where it is data, else something to call."""
        value = self._caller.get(self._target)
        return self if isinstance(value, Remote) else value


def _reference_of(value: Any) -> dict[str, int]:
    target = getattr(value, "_target", None) if isinstance(value, Remote) else None
    if target is None or set(target) != {"object"}:
        raise CannotTell(f"the test hands the program a {type(value).__name__}")
    return {"r": target["object"]}


def _same_class(raised: Any) -> Exception:
    """An exception of the nearest built-in class, so that a test which expects it can catch it."""
    try:
        names, text = raised
        for name in names:
            kind = getattr(builtins, name, None)
            if isinstance(kind, type) and issubclass(kind, Exception) and kind not in (Exception, AssertionError):
                return kind(f"{names[0]}: {text}" if name != names[0] else text)
        return ProgramError(f"{names[0]}: {text}")
    except (TypeError, ValueError, AttributeError):
        return ProgramError("an exception that cannot be read")
