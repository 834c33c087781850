"""PNG files by hand: what the tools read and write is checked by an independent program."""
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, pixels):
    """A picture of 8-bit RGB pixels, row after row."""
    rows = b"".join(b"\0" + pixels[3 * width * y:3 * width * (y + 1)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunks(content):
    """Kind and content of each chunk, in order; their checksums are verified."""
    assert content.startswith(SIGNATURE)
    found, place = [], len(SIGNATURE)
    while place < len(content):
        size, = struct.unpack_from(">I", content, place)
        kind, body = content[place + 4:place + 8], content[place + 8:place + 8 + size]
        checksum, = struct.unpack_from(">I", content, place + 8 + size)
        assert checksum == zlib.crc32(kind + body), kind
        found.append((kind, body))
        place += 12 + size
    assert found[-1] == (b"IEND", b"")
    return found


def pixels(content):
    """The rows as they were compressed: all of a picture, but not the texts beside it."""
    return zlib.decompress(b"".join(body for kind, body in chunks(content) if kind == b"IDAT"))


def texts(content):
    """The texts beside the picture, by keyword."""
    found = {}
    for kind, body in chunks(content):
        if kind == b"iTXt":
            keyword, rest = body.split(b"\0", 1)
            assert rest[:2] == b"\0\0", "compressed"
            language, translated, text = rest[2:].split(b"\0", 2)
            found[keyword.decode("ascii")] = text.decode("utf-8")
    return found
