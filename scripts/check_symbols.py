#!/usr/bin/env python3
"""Fails if two libraries of a program export variables of the same name but different sizes.

    scripts/check_symbols.py build/release/bin/dalle-train ...

The dynamic linker merges symbols of the same name across all libraries of a process, so one library's constructor may
write past the end of the other's variable. Needs nm (binutils) and ldd (glibc).
"""
import re
import subprocess
import sys
from collections import defaultdict

# Merged by design in C++, with the same layout everywhere: inline variables, vtables, type information and names, guards.
MERGED_BY_DESIGN = re.compile(r"^_ZT[VTISC]|^_ZGV|^_ZN(K?)St|^_ZSt")
# Set by the linker separately in each library.
LINKER_SYMBOLS = {"_edata", "_end", "__bss_start", "_init", "_fini"}


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def libraries_of(program):
    return {path for line in output_of("ldd", program).splitlines() if (path := line.partition("=> ")[2].split(" ")[0])}


def exported_variables(library):
    """Names and sizes in bytes of the data symbols to which references in other libraries may be bound."""
    for line in output_of("nm", "--dynamic", "--defined-only", "--print-size", library).splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "BDRVGSu":  # no size: an absolute symbol or a version name
            name = fields[3].replace("@@", "@")  # keep the version: symbols of different versions are not merged
            if name not in LINKER_SYMBOLS and not MERGED_BY_DESIGN.match(name):
                yield name, int(fields[1], 16)


def main(programs):
    sizes = defaultdict(lambda: defaultdict(list))  # name -> size -> libraries
    for library in sorted({*programs, *(path for program in programs for path in libraries_of(program))}):
        for name, size in exported_variables(library):
            sizes[name][size].append(library)
    clashes = {name: by_size for name, by_size in sizes.items() if len(by_size) > 1}
    for name, by_size in sorted(clashes.items()):
        found = "; ".join(f"{size} bytes in {', '.join(libraries)}" for size, libraries in sorted(by_size.items()))
        print(f"symbols: error: {name}: {found}", file=sys.stderr)
    if not clashes:
        print(f"symbols: ok, {len(sizes)} exported variables")
    return 1 if clashes else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
