"""Values and messages between a program and its tests: JSON in frames, data only, rebuilt as plain built-in types.

Not covered: objects of other classes. `encode` hands those to `other`, which may keep them and send a reference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import islice
from typing import Any

LONGEST_MESSAGE_BYTES = 16 * 1024**2
MOST_ITEMS = 1_000_000

Other = Callable[[Any], Any]


class NotData(TypeError):
    """A value that is not made of built-in types."""


def refuse(value: Any) -> Any:
    raise NotData(f"a value of type {type(value).__name__} is not data")


def encode(value: Any, other: Other = refuse) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return {"i": hex(value)}  # text of any length; decimal text has a limit
    if isinstance(value, float):
        return {"f": float(value).hex()}
    if isinstance(value, complex):
        return {"c": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, (bytes, bytearray)):
        return {"b": value.hex()}
    return _encode_many(value, other)


def _encode_many(value: Any, other: Other) -> Any:
    if isinstance(value, range):
        return {"g": [value.start, value.stop, value.step]}
    if isinstance(value, Mapping):
        return {"d": [[encode(key, other), encode(item, other)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"t": [encode(item, other) for item in value]}
    if isinstance(value, Set):
        return {"z" if isinstance(value, frozenset) else "s": [encode(item, other) for item in value]}
    if isinstance(value, list) or type(value).__name__ == "deque":
        return {"l": [encode(item, other) for item in value]}
    if hasattr(type(value), "tolist"):  # numpy's arrays and numbers
        return encode(value.tolist(), other)
    if isinstance(value, Iterator):
        return {"n": [encode(item, other) for item in islice(value, MOST_ITEMS)]}
    return other(value)


def decode(row: Any, reference: Callable[[Any], Any] = refuse) -> Any:
    if row is None or isinstance(row, (bool, str)):
        return row
    ((kind, content),) = row.items()
    if kind == "r":
        return reference(content)
    if kind in _PLAIN:
        return _PLAIN[kind](content)
    if kind == "d":
        return {decode(key, reference): decode(item, reference) for key, item in content}
    return _MANY[kind](decode(item, reference) for item in content)


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "b": bytes.fromhex,
    "c": lambda parts: complex(*map(float.fromhex, parts)),
    "g": lambda parts: range(*parts),
}
_MANY: dict[str, Callable[[Iterator[Any]], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "z": frozenset,
    "n": lambda items: iter(list(items)),
}


def send(channel: int, message: Any) -> None:
    data = json.dumps(message).encode()
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(channel, data) :]


def receive(channel: int) -> Any:
    """The next message. Raises: EOFError where the other side is gone, ValueError where it sends nonsense."""
    length = int.from_bytes(_take(channel, 4), "big")
    if length > LONGEST_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes; at most {LONGEST_MESSAGE_BYTES} are read")
    return json.loads(_take(channel, length))


def _take(channel: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            part = os.read(channel, min(count - len(data), 1 << 20))
        except ConnectionResetError:
            part = b""
        if not part:
            raise EOFError("the other side is gone")
        data += part
    return bytes(data)
