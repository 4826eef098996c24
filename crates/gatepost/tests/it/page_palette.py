"""Makes a screenshot small: reads a PNG as Chromium writes it, writes one with the 256 most frequent of its colours.

Every other colour, which is the rim of a letter or of a line, becomes the nearest of them.
    python3 page_palette.py IN.png OUT.png
"""
import struct
import sys
import zlib
from collections import Counter


def chunks(data):
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        yield data[at + 4:at + 8], data[at + 8:at + 8 + length]
        at += 12 + length


def rows(raw, width, height, depth):
    """The lines of the picture, with the filters of PNG undone."""
    before, at, size = bytearray(width * depth), 0, width * depth
    for _ in range(height):
        kind, line = raw[at], bytearray(raw[at + 1:at + 1 + size])
        at += 1 + size
        for x in range(size):
            left = line[x - depth] if x >= depth else 0
            up = before[x]
            corner = before[x - depth] if x >= depth else 0
            if kind == 4:
                guess = left + up - corner
                far = [abs(guess - left), abs(guess - up), abs(guess - corner)]
                add = (left, up, corner)[far.index(min(far))]
            else:
                add = (0, left, up, (left + up) >> 1)[kind]
            line[x] = (line[x] + add) & 255
        yield bytes(line)
        before = line


def main(source, target):
    data = open(source, "rb").read()
    parts = list(chunks(data))
    width, height, bits, kind = struct.unpack(">IIBB", parts[0][1][:10])
    assert bits == 8 and kind in (2, 6), "8 bits of RGB, with or without alpha"
    depth = {2: 3, 6: 4}[kind]
    raw = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    lines = [[line[x:x + 3] for x in range(0, len(line), depth)] for line in rows(raw, width, height, depth)]
    count = Counter(pixel for line in lines for pixel in line)
    palette = [colour for colour, _ in count.most_common(256)]
    index = {colour: n for n, colour in enumerate(palette)}
    for colour in count:
        if colour not in index:
            near = min(range(len(palette)), key=lambda n: sum((a - b) ** 2 for a, b in zip(colour, palette[n])))
            index[colour] = near

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    picture = b"".join(b"\0" + bytes(index[pixel] for pixel in line) for line in lines)
    with open(target, "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)))
        out.write(chunk(b"PLTE", b"".join(palette)) + chunk(b"IDAT", zlib.compress(picture, 9)) + chunk(b"IEND", b""))


main(*sys.argv[1:])
