#!/usr/bin/env python3
"""Runs clang-tidy on all sources of the release build with the checks of .clang-tidy; every warning is an error.

Usage: check_tidy.py [PREFIX ...]     e.g. check_tidy.py src tools; default: src tools tests

clang-tidy spends nearly all of its time on LibTorch's headers, so this script joins many sources into one. Run
scripts/build.sh first.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/release"
INCLUDE = re.compile(r'^#include "(.*\.cpp)"', re.MULTILINE)
LIBRARY_PARTS = 2  # check_unity.sh ensures that any sources of the library can be joined


def sources_of(path: pathlib.Path) -> list[pathlib.Path]:
    """The sources that a file of the unity build includes, or the file itself."""
    if "Unity" not in path.parts:
        return [path]
    return [pathlib.Path(source) for source in INCLUDE.findall(path.read_text())]


def flags_of(command: str) -> list[str]:
    """The compiler's flags without the output, the source and the precompiled header, which only g++ can read."""
    words = shlex.split(command)[1:]
    flags = []
    while words:
        word = words.pop(0)
        if word in ("-o", "-c", "-include"):
            words.pop(0)
        elif word not in ("-fopenmp", "-Winvalid-pch", "-Werror=invalid-pch", "-Wno-subobject-linkage"):
            flags.append(word)
    return flags


def parts(prefixes: list[str]) -> list[tuple[list[pathlib.Path], list[str]]]:
    """The sources to check together, with the flags that compile them."""
    found, library, library_flags = [], [], []
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        sources = [source for source in sources_of(pathlib.Path(entry["file"])) if source.is_relative_to(ROOT)
                   and source.relative_to(ROOT).parts[0] in prefixes]
        if not sources:
            continue
        if re.search(r" -o \S*CMakeFiles/dalle(_serve)?\.dir/", entry["command"]):  # not what uses their headers
            library += sources
            library_flags = max(library_flags, flags_of(entry["command"]), key=len)  # with the most include folders
        else:
            found.append((sources, flags_of(entry["command"])))
    size = -(-len(library) // LIBRARY_PARTS) or 1
    return [(library[i:i + size], library_flags) for i in range(0, len(library), size)] + found


def check(sources: list[pathlib.Path], flags: list[str]) -> str:
    """Returns clang-tidy's warnings."""
    with tempfile.TemporaryDirectory() as folder:
        joined = pathlib.Path(folder, "joined.cpp")
        joined.write_text("".join(f'#include "{source}"  // NOLINT(bugprone-suspicious-include)\n' for source in sources))
        result = subprocess.run(["clang-tidy", f"--config-file={ROOT}/.clang-tidy", "--quiet", str(joined), "--", *flags],
                                cwd=BUILD, capture_output=True, text=True)
    return result.stdout + (result.stderr if result.returncode and not result.stdout else "")


def main() -> int:
    work = parts(sys.argv[1:] or ["src", "tools", "tests"])
    if not work:
        sys.exit("tidy: error: found no sources in the compile commands of build/release")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = {pool.submit(check, *part): part[0] for part in work}
        for done, future in enumerate(concurrent.futures.as_completed(results), 1):
            output = future.result().strip()
            failed += bool(output)
            names = ", ".join(str(source.relative_to(ROOT)) for source in results[future][:2])
            more = len(results[future]) - 2
            print(f"tidy: {done} of {len(work)}: {names}{f' and {more} more' if more > 0 else ''}", flush=True)
            if output:
                print(output, flush=True)
    print("tidy: ok" if not failed else f"tidy: error: {failed} of {len(work)} parts have warnings")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
