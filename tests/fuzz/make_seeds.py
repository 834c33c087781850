#!/usr/bin/env python3
"""Writes small valid files for each fuzz target to start from.

Usage: make_seeds.py FOLDER. Makes FOLDER/<target>/ for each target; needs nothing but Python.
"""
import io
import json
import pathlib
import struct
import sys
import tarfile
import zipfile
import zlib


def yaml_seeds() -> dict[str, bytes]:
    return {
        "all": b"flag: true\nnumber: 1.5e-3\ntext: 'a # b'\ncolor: dark_blue\ntexts: [\"x\", y: z]\n",
        "nested": b"inner:\n  whole: 7\n  maybe: null\n  colors: [red, dark_blue]\ntext: |\n  two\n  lines\n",
        "anchor": b"texts: &t [a, b]\ntext: !!str 12\ninner: {whole: 3}\ncopy: *t\n",
        "override": b"# nothing\n\0inner.colors=[red]",
        "text_override": b"flag: false\0text=a=b #2",
        "quotes": b'text: "\\u00e4\\x41\\n"\n? color\n: red\n--- \n',
    }


def tar_seeds() -> dict[str, bytes]:
    def archive(format: int, names: list[str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=format, bufsize=512) as tar:
            for i, name in enumerate(names):
                member = tarfile.TarInfo(name)
                member.size = 7 * i
                tar.addfile(member, io.BytesIO(b"x" * member.size))
        return buffer.getvalue().rstrip(b"\0") + bytes(1024)

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 512)

    ustar = padded(archive(tarfile.USTAR_FORMAT, ["a/0.txt", "a/0.jpg"]))
    return {"ustar": ustar, "gnu": padded(archive(tarfile.GNU_FORMAT, ["n" * 120 + ".txt"])),
            "pax": padded(archive(tarfile.PAX_FORMAT, ["\u00e4.txt", "b.json"])), "twice": ustar + ustar,
            "cut": ustar[:900]}


def safetensors_seeds() -> dict[str, bytes]:
    def file(header: dict, data: bytes) -> bytes:
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data
    one = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
    two = {"dtype": "BOOL", "shape": [], "data_offsets": [8, 9]}
    return {"two": file({"__metadata__": {"k": "v"}, "a.b": one, "c": two}, bytes(9)), "none": file({}, b""),
            "empty": file({"e": {"dtype": "I64", "shape": [0, 3], "data_offsets": [0, 0]}}, b"")}


def torch_file_seeds() -> dict[str, bytes]:
    """A state dict and a module of one tensor each, in both containers, as torch.save would write them."""
    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def call(name: str, arguments: bytes) -> bytes:
        return b"c" + name.encode() + b"\n(" + arguments + b"tR"

    def pickle(value: bytes) -> bytes:
        return b"\x80\x02" + value + b"."

    def archive(value: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as target:
            for name, content in (("data.pkl", pickle(value)), ("version", b"3"), ("data/0", bytes(16))):
                target.writestr(zipfile.ZipInfo("a/" + name), content)
        return buffer.getvalue()

    def legacy(value: bytes) -> bytes:
        return (pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") + pickle(b"M\xe9\x03") +
                pickle(b"}" + text("little_endian") + b"\x88s") + pickle(value.replace(b"tQ", b"NtQ")) +
                pickle(b"]" + text("0") + b"a") + struct.pack("<Q", 4) + bytes(16))

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    empty = b"ccollections\nOrderedDict\n)R"
    tensor = call("torch._utils\n_rebuild_tensor_v2", storage + b"K\x00K\x02K\x02\x86K\x02K\x01\x86\x89" + empty)
    state = empty + b"q\x00(" + text("w") + tensor + b"u}" + text("_metadata") + empty + b"sb"
    layer = (b"ctorch.nn.modules.linear\nLinear\n)\x81}(" + text("training") + b"\x88" + text("gain") + b"G" +
             struct.pack(">d", 0.5) + text("_parameters") + b"}" + text("w") +
             call("torch._utils\n_rebuild_parameter", tensor + b"\x89" + empty) + b"s" + text("_modules") + b"}ub")
    return {"zip": archive(state), "legacy": legacy(state), "zip_module": archive(layer), "legacy_module": legacy(layer)}


TIFF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*extra: bytes) -> bytes:
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0)) + b"".join(extra) +
            chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND", b""))


def image_seeds() -> dict[str, bytes]:
    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 255, marker, len(content) + 2) + content

    def webp(kind: bytes, content: bytes, rest: bytes = b"") -> bytes:
        body = b"WEBP" + kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) + rest
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def bmp(header: bytes, pixels: int) -> bytes:
        return struct.pack("<2sIHHI", b"BM", 14 + len(header) + pixels, 0, 0, 14 + len(header)) + header + bytes(pixels)

    frame = segment(0xC0, struct.pack(">BHHBBBB", 8, 3, 5, 1, 1, 0x11, 0))
    exif = b"EXIF" + struct.pack("<I", len(TIFF)) + TIFF
    return {
        "jpeg": (b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + TIFF) + frame + segment(0xDA, b"\1\1\0\0\x3f\0") +
                 b"\xff\xd9"),
        "png": png(chunk(b"eXIf", TIFF)),
        "webp_lossy": webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 6, 4)),
        "webp_lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 5 | 3 << 14)),
        "webp_extended": webp(b"VP8X", b"\x08\0\0\0" + b"\5\0\0\3\0\0", exif),
        "bmp": bmp(struct.pack("<IiiHHIIiiII", 40, 2, -2, 1, 24, 0, 16, 1, 1, 0, 0), 16),
        "bmp_core": bmp(struct.pack("<IHHHH", 12, 2, 1, 1, 24), 8),
        "gif": b"GIF89a\1\0\1\0", "heic": b"\0\0\0\x18ftypheic\0\0\0\0",
    }


def png_text_seeds() -> dict[str, bytes]:
    text = b"prompt\0" + b"\0\0" + b"en\0" + b"translated\0" + "r\u00f6d".encode()
    return {"plain": png(), "text": png(chunk(b"iTXt", text), chunk(b"tEXt", b"a\0b")),
            "compressed": png(chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"x")))}


def tokenizer_seeds() -> dict[str, bytes]:
    """A sentencepiece BPE model with byte fallback and a table that maps "A" to "a"."""
    def varint(value: int) -> bytes:
        low = value & 127
        return bytes([low | 128]) + varint(value >> 7) if value > 127 else bytes([low])

    def field(number: int, value: bytes | int | float) -> bytes:
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        if isinstance(value, float):
            return varint(number << 3 | 5) + struct.pack("<f", value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    def piece(text: str, score: float, kind: int) -> bytes:
        return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))

    def character_map() -> bytes:
        """A trie of 32-bit units (Darts-clone): the root's children are at 0x100, those of "A" at 0x300."""
        units = [0] * 0x400
        units[0] = 0x100 << 10
        units[0x100] = 0x80000000  # else a child for the byte 0
        units[0x141] = (0x141 ^ 0x300) << 10 | 1 << 8 | 0x41
        units[0x300] = 0x80000000  # the place of the normal form
        return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + b"a\0"

    pieces = piece("<unk>", 0.0, 2) + b"".join(piece(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256))
    for i, text in enumerate(["\u2581a", "re", "aa", "aaaa", "\u2581", "a", "r", "e", "d", "c", "i", "l", "1", "2"]):
        pieces += piece(text, -float(i), 1)
    trainer = field(2, field(3, 2) + field(35, 1) + field(4, 271) + field(40, 0))
    return {"plain": pieces + trainer + field(3, field(1, b"identity")),
            "map": pieces + piece("<s>", 0.0, 3) + piece("ed", 0.0, 4) + trainer + field(3, field(2, character_map()))}


def json_seeds() -> dict[str, bytes]:
    return {"one": b'{"caption": "a \\u00e4 \\ud83d\\ude00", "n": [1, -2.5e3, true, null]}',
            "list": b'{"caption": ["a", null, NaN, "b\\n"], "x": -Infinity}',
            "half": b'{"caption": "\\ud83d alone \\\\ \\" \xff"}', "lines": b"\xef\xbb\xbfone\r\n two \rthree\n\n",
            "word": b'"Infinity"'}


def multipart_seeds() -> dict[str, bytes]:
    def form(content_type: bytes, *parts: tuple[bytes, bytes], before: bytes = b"", end: bytes = b"--b--\r\n") -> bytes:
        body = b"".join(b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n" for headers, content in parts)
        return content_type + b"\0" + before + body + end

    field = b'Content-Disposition: form-data; name="prompt"'
    file = b'Content-Disposition: form-data; name="image[]"; filename="a \\"b\\".png"\r\nContent-Type: image/png; x=y'
    plain = b"multipart/form-data; boundary=b"
    return {"two": form(plain, (field, b"a red circle"), (file, b"\x89PNG\r\n\0")), "none": form(plain),
            "quoted": form(b'Multipart/Form-Data; charset=utf-8; boundary="b";', (field, b"--b")),
            "around": form(plain, (field, b"\r\n-b\r\n"), before=b"preamble\r\n", end=b"--b-- \r\nepilogue"),
            "spaces": plain + b"\0--b \t\r\n" + field + b"\r\ncontent-transfer-encoding: binary\r\n\r\n\r\n--b--",
            "truncated": form(plain, (field, b"x"), end=b"")}


def request_fields_seeds() -> dict[str, bytes]:
    return {"all": b'{"text": "a \\u00e4", "whole": 7, "number": -2.5e-3, "flag": true, "choice": "low", "area": [1, 2, 3, 4],'
                   b' "file": "aGk=", "files": ["data:image/png;base64,aGk=", ""], "object": {"a": {}}, "other": 1e999}',
            "strings": b'{"area": " 1, 2 ,3,4", "whole": 2.0, "number": 1, "flag": null, "text": "", "file": "a"}',
            "wrong": b'{"whole": 1.5, "number": "1", "flag": 1, "choice": "", "area": [1, 2, 3], "text": "\\u0000"}',
            "list": b"[1]"}


def request_target_seeds() -> dict[str, bytes]:
    return {"path": b"/v1/models", "query": b"/a?x=1&y=a+b%2B&z&x=3&&=e", "encoded": b"/%C3%A4%2f..%2F%f0%9f%98%80", "star": b"*",
            "proxy": b"http://example.org:80/x?y=/z", "invalid": b"/%c0%80?%00=%zz"}


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    for target, seeds in [("yaml", yaml_seeds()), ("tar", tar_seeds()), ("safetensors", safetensors_seeds()),
                          ("torch_file", torch_file_seeds()),
                          ("image", image_seeds()), ("png_text", png_text_seeds()), ("tokenizer", tokenizer_seeds()),
                          ("json", json_seeds()), ("multipart", multipart_seeds()),
                          ("request_fields", request_fields_seeds()), ("request_target", request_target_seeds())]:
        folder = root / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
