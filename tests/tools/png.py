"""An independent PNG reader and writer, to check what the tools read and write."""
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, pixels):
    """A PNG image from 8-bit RGB pixels, row by row."""
    rows = b"".join(b"\0" + pixels[3 * width * y:3 * width * (y + 1)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunks(content):
    """The type and content of each chunk, in order, after verifying their checksums."""
    assert content.startswith(SIGNATURE)
    found, position = [], len(SIGNATURE)
    while position < len(content):
        size, = struct.unpack_from(">I", content, position)
        kind, body = content[position + 4:position + 8], content[position + 8:position + 8 + size]
        checksum, = struct.unpack_from(">I", content, position + 8 + size)
        assert checksum == zlib.crc32(kind + body), kind
        found.append((kind, body))
        position += 12 + size
    assert found[-1] == (b"IEND", b"")
    return found


def pixels(content):
    """The uncompressed rows of the image, without its texts."""
    return zlib.decompress(b"".join(body for kind, body in chunks(content) if kind == b"IDAT"))


def rgb_rows(content):
    """The 8-bit RGB values of each row."""
    width, height, depth, color_type = struct.unpack_from(">IIBB", chunks(content)[0][1])
    assert (depth, color_type) == (8, 2)
    filtered, rows, above = pixels(content), [], bytes(3 * width)
    for start in range(0, len(filtered), 3 * width + 1):
        row = bytearray(filtered[start + 1:start + 3 * width + 1])
        for i, value in enumerate(row):
            left, upper_left = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            up, estimate = above[i], left + above[i] - upper_left
            nearest = min((left, up, upper_left), key=lambda candidate: abs(estimate - candidate))
            row[i] = (value + (0, left, up, (left + up) // 2, nearest)[filtered[start]]) % 256
        rows.append(bytes(row))
        above = row
    assert len(rows) == height
    return rows


def texts(content):
    """The texts of the image, by keyword."""
    found = {}
    for kind, body in chunks(content):
        if kind == b"iTXt":
            keyword, rest = body.split(b"\0", 1)
            assert rest[:2] == b"\0\0", "compressed"
            language, translated, text = rest[2:].split(b"\0", 2)
            found[keyword.decode("ascii")] = text.decode("utf-8")
    return found
