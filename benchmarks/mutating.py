"""Damage a file at random, as disks, editors, old versions and enemies do; the same for a seed."""

import contextlib
import json
import os
import random
import re
import shutil
import socket
from pathlib import Path
from typing import Any

#: What takes a number's place: none of it can be counted, measured or waited for.
_NUMBERS = (
    *(b"-1", b"0", b"1e999", b"-1e999", b"1e300", b"NaN", b"9" * 19, b"9" * 30, b"9" * 5000),
    *(b"18446744073709551615", b"-9223372036854775809", b"1e18", b"253402300800", b"0.5"),
)
#: The same for a value of any kind.
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**18, 10**30, 1e300, 0.5, "", "x", "\0", "\x1b[2J", "a" * 100_000),
    *("../../../etc", "/dev/zero", [], {}, [None], {"": None}, [[]], "1e999", "completed"),
)


def content(chance: random.Random, data: bytes, name: str) -> bytes:
    """`data`, damaged in one way or a few."""
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        ways = [_bits, _cut, _lines, _numbers, _insert, _tail]
        if name.endswith((".json", ".jsonl")):
            ways += [_value] * 6
        data = chance.choice(ways)(chance, data)
    return data


def _bits(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 20))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(chance: random.Random, data: bytes) -> bytes:
    begin, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return chance.choice((data[:begin], data[begin:], data[:begin] + data[end:], b""))


def _lines(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    number = chance.randrange(len(lines))
    line = lines[number]
    way = chance.randrange(5)
    if way == 0:
        del lines[number]
    elif way == 1:
        lines[number:number] = [line] * (1 if len(line) > 100_000 else chance.choice((1, 100)))
    elif way == 2:
        lines.append(lines.pop(number))
    elif way == 3:
        lines[number] = line.rstrip(b"\n")
    else:
        times = 2 if len(line) > 10_000 else 1000
        lines[number] = line.rstrip(b"\n") * chance.choice((2, times)) + b"\n"
    return b"".join(lines)


def _numbers(chance: random.Random, data: bytes) -> bytes:
    places = list(re.finditer(rb"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w.])", data))
    for place in sorted(chance.sample(places, min(len(places), 1)), key=lambda p: -p.start()):
        data = data[: place.start()] + chance.choice(_NUMBERS) + data[place.end() :]
    return data


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    more = (
        *(b"\xff\xfe", b"\0" * 10, b"\r", b"\n", b"\x1b]0;x\x07", b"[" * 5000, b'{"a":' * 5000),
        *(b"\xed\xa0\x80", b"a" * 1_500_000, chance.randbytes(50), b"\xe2\x80\xae"),
    )
    return data[:at] + chance.choice(more) + data[at:]


def _tail(chance: random.Random, data: bytes) -> bytes:
    return data + chance.choice((b"x", b"\0", b"}", b"\n\n", data, data[: len(data) // 2]))


def _value(chance: random.Random, data: bytes) -> bytes:
    """Another value, or none, somewhere in the JSON of the file, or of one of its lines."""
    lines = data.splitlines(keepends=True)
    number = 0
    try:
        whole = json.loads(data)
    except ValueError:
        number = chance.randrange(len(lines)) if lines else 0
        try:
            whole = json.loads(lines[number])
        except (ValueError, IndexError, RecursionError):
            return data
    except RecursionError:
        return data
    else:
        lines = [data]
    places = list(_places(whole))
    if not places:
        return data
    holder, key = chance.choice(places)
    way = chance.randrange(4)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif way == 2:
        other, its = chance.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            holder[key] = json.loads(json.dumps(other[its]))
    else:
        holder[key] = chance.choice(_VALUES)
    text = json.dumps(whole, ensure_ascii=chance.random() < 0.5)
    lines[number] = text.encode(errors="surrogatepass") + b"\n"  # half a character is one case
    return b"".join(lines)


def _places(value: Any) -> Any:
    """Where something is in a JSON value: what holds it, and its key or index."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def put_in_place(chance: random.Random, path: Path) -> str:
    """Something that is no file of ours in the place of `path`; what it is."""
    path.unlink()
    what = chance.choice(("pipe", "folder", "loop", "device", "null", "socket", "huge", "gone"))
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    elif what in ("device", "null"):
        path.symlink_to("/dev/zero" if what == "device" else "/dev/null")
    elif what == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name[:100])
        os.chdir(here)
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    return what


def restore(path: Path, data: bytes) -> None:
    """The file as it was."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(data)
