"""Writes safetensors files: random weights, and near-copies of them. A stage runs it; the standard library is enough.

    weights.py new TENSORS OUT          TENSORS matrices of 512 x 512, f32, some 1 MB each
    weights.py tensor IN OUT            one matrix is another one
    weights.py rows IN OUT              one row in twenty of every matrix is another one
    weights.py first-rows IN OUT        the first sixteenth of the rows of every matrix is another one

The weights have the signs and exponents of normal numbers with a deviation of .02; their other bits are noise.
"""

import json
import random
import struct
import sys
from pathlib import Path

SIDE = 512
ROW = 4 * SIDE
MATRIX = SIDE * ROW
draw = random.Random(1337)
# The highest byte of a number: its sign and most of its exponent, as often as they come.
HIGHEST = bytes(struct.pack("<f", draw.gauss(0, 0.02))[3] for _ in range(256))


def noise(numbers):
    """The bytes of random weights."""
    weights = bytearray(draw.randbytes(4 * numbers))
    weights[3::4] = weights[3::4].translate(HIGHEST)
    return bytes(weights)


def header(tensors):
    entries = {f"layer.{n:03}.weight": {"dtype": "F32", "shape": [SIDE, SIDE],
                                        "data_offsets": [n * MATRIX, (n + 1) * MATRIX]} for n in range(tensors)}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def new(tensors, out):
    with open(out, "wb") as file:
        file.write(header(int(tensors)))
        for _ in range(int(tensors)):
            file.write(noise(SIDE * SIDE))


def changed(original, out, places, length):
    """A copy in which `length` bytes are others at each of these places, counted from the first weight."""
    weights = bytearray(Path(original).read_bytes())
    draw.seed(7331)
    start = 8 + struct.unpack_from("<Q", weights)[0]
    for place in places(len(weights) - start):
        weights[start + place:start + place + length] = noise(length // 4)
    Path(out).write_bytes(weights)


def tensor(original, out):
    changed(original, out, lambda size: [size // MATRIX // 2 * MATRIX], MATRIX)


def rows(original, out):
    def places(size):
        all_rows = range(0, size, ROW)
        return draw.sample(all_rows, len(all_rows) // 20)

    changed(original, out, places, ROW)


def first_rows(original, out):
    changed(original, out, lambda size: range(0, size, MATRIX), MATRIX // 16)


if __name__ == "__main__":
    {"new": new, "tensor": tensor, "rows": rows, "first-rows": first_rows}[sys.argv[1]](*sys.argv[2:])
