#!/usr/bin/env python3
"""Finds what the tests do not: changes one operator of a module at a time and runs the module's tests.

Usage: mutation.py MODULE --root WORKTREE [--seed 1] [--minutes 30] [--build build/release] [--dry-run 20]

    git worktree add /tmp/mutants && ln -s "$PWD/third_party/"* /tmp/mutants/third_party/
    (cd /tmp/mutants && scripts/build.sh core_test)
    tests/mutation.py core --root /tmp/mutants

Prints each mutant that the tests let pass ("survived"), and at the end the share of those that they found. A survivor
is a missing test, code without effect, or a change that makes no difference; a person has to decide. Each mutant is one
change in one of src/MODULE/**/*.cpp; only the ninja target MODULE_test is built, and run with a timeout. The file is
restored in every case; after a kill -9, by the next run. The same seed gives the same mutants in the same order.
"""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
BUILD_TIMEOUT_S = 1800
LEAST_TIMEOUT_S = 20  # of a run of the tests; else five times what it takes without a mutant

# clang-format puts spaces around binary operators and none around the brackets of templates, references or pointers.
OPERATORS = {
    "relational": {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",),
                   "!=": ("==",)},
    "logical": {"&&": ("||",), "||": ("&&",)},
    "arithmetic": {"+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "%": ("/",), "+=": ("-=",), "-=": ("+=",),
                   "*=": ("/=",), "/=": ("*=",)},
}
NUMBER = re.compile(r"(?<![\w.'])(\d[\d']*\.\d+|0[xX][0-9a-fA-F']+|\d[\d']*)(?=[uUlLfF]*\b)(?!\.\d|[eE])")
STATEMENT = re.compile(r"(throw\b|(\+\+|--)\*?\w|\*?[A-Za-z_]\w*(::\w+|<[^<>;]*>)*\s*"
                       r"(\(|\.|->|\[|=(?!=)|[-+*/|&%]=|\+\+|--))")
NEVER_REMOVED = re.compile(r"(return|case|default|static_assert|DALLE_CHECK|TORCH_MODULE|using|namespace|sizeof)\b")
# Assertions hold for all inputs, so weakening one changes nothing that a test could see.
UNMUTATED = re.compile(r"\b(static_assert|DALLE_CHECK)\s*(?=\()|\btemplate\s*(?=<)")


@dataclasses.dataclass(frozen=True)
class Mutation:
    path: pathlib.Path
    kind: str
    begin: int
    end: int
    replacement: str

    def apply(self, text: str) -> str:
        return text[:self.begin] + self.replacement + text[self.end:]

    def describe(self, text: str, root: pathlib.Path) -> str:
        """file:line: before -> after, of the whole lines that change."""
        first = text.rfind("\n", 0, self.begin) + 1
        last = text.find("\n", self.end)
        last = len(text) if last < 0 else last
        before = text[first:last]
        after = text[first:self.begin] + self.replacement + text[self.end:last]
        line = text.count("\n", 0, self.begin) + 1
        return f"{self.path.relative_to(root)}:{line}: {' '.join(before.split())} -> {' '.join(after.split())}"


def blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def code_only(text: str) -> str:
    """The text with comments, literals of text and preprocessor lines blanked, all places unchanged."""
    pattern = re.compile(r"""R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|"""
                         r"""//[^\n]*|/\*.*?\*/|^[ \t]*#(?:\\\n|[^\n])*""", re.DOTALL | re.MULTILINE)
    return pattern.sub(lambda match: blank(match[0]), text)


def closing(code: str, opening: int) -> int:
    """The place of the bracket that closes the one at `opening`; the end of the code if there is none."""
    pairs = {"(": ")", "<": ">"}
    depth, open_bracket, close_bracket = 0, code[opening], pairs[code[opening]]
    for place in range(opening, len(code)):
        if code[place] == open_bracket:
            depth += 1
        elif code[place] == close_bracket:
            depth -= 1
            if depth == 0:
                return place
    return len(code)


def without_assertions(code: str) -> str:
    for match in UNMUTATED.finditer(code):
        end = closing(code, match.end()) + 1
        code = code[:match.start()] + blank(code[match.start():end]) + code[end:]
    return code


def last_top_level(condition: str, character: str) -> int:
    """The place after the last `character` outside of brackets; 0 if there is none."""
    depth, place = 0, 0
    for i, c in enumerate(condition):
        depth += (c in "([{") - (c in ")]}")
        if c == character and depth == 0:
            place = i + 1
    return place


def negations(path: pathlib.Path, code: str, text: str):
    for match in re.finditer(r"\b(if|while)\s*(?=\()", code):
        begin, end = match.end() + 1, closing(code, match.end())
        begin += last_top_level(code[begin:end], ";")
        begin += len(text[begin:end]) - len(text[begin:end].lstrip())
        condition = text[begin:end]
        if condition and not re.search(r"[^=!<>]=[^=]", code[begin:end]):  # a declaration cannot be negated
            yield Mutation(path, "negation", begin, end, f"!({condition})")


def removals(path: pathlib.Path, code: str):
    """Statements that are calls, assignments or throws; what remains is a lone semicolon."""
    depth, begin = 0, 0
    for place, character in enumerate(code):
        depth += (character in "([") - (character in ")]")
        if depth != 0 or character not in ";{}":
            continue
        start = begin
        begin = place + 1
        if character != ";":
            continue
        while True:  # the statement of an if, else or loop without braces
            start += len(code[start:place]) - len(code[start:place].lstrip())
            prefix = re.match(r"(if|for|while)\s*(constexpr\s*)?(?=\()|else\b", code[start:place])
            if not prefix:
                break
            start += prefix.end()
            if prefix[0] != "else":
                start = closing(code, start) + 1
        statement = code[start:place]
        if (STATEMENT.match(statement) and not NEVER_REMOVED.match(statement) and
                not re.search(r"=\s*(delete|default|0)\s*$", statement)):
            yield Mutation(path, "removal", start, place, "")


def off_by_one(number: str, choice: random.Random) -> str:
    digits = number.replace("'", "")
    if "." in digits:
        return repr(float(digits) + 1)
    value = int(digits, 0) if digits[:2] in ("0x", "0X") or digits == "0" else int(digits)
    return str(value + (1 if value == 0 else choice.choice((1, -1))))


def mutations_of(path: pathlib.Path, choice: random.Random) -> list[Mutation]:
    text = path.read_text()
    code = without_assertions(code_only(text))
    found = [*negations(path, code, text), *removals(path, code)]
    for kind, replacements in OPERATORS.items():
        for match in re.finditer(r"(?<=\s)[-+*/%<>=!&|]{1,2}(?=\s)", code):
            if match[0] in replacements:
                found.append(Mutation(path, kind, *match.span(), choice.choice(replacements[match[0]])))
    for match in NUMBER.finditer(code):
        found.append(Mutation(path, "constant", *match.span(1), off_by_one(match[1], choice)))
    return found


def in_random_order(mutations: list[Mutation], choice: random.Random) -> list[Mutation]:
    """Kind by kind in turn, or constants, of which there are most, would take most of the time."""
    by_kind: dict[str, list[Mutation]] = {}
    for mutation in mutations:
        by_kind.setdefault(mutation.kind, []).append(mutation)
    for list_of_kind in by_kind.values():
        choice.shuffle(list_of_kind)
    order = []
    while any(by_kind.values()):
        for kind in sorted(by_kind):
            if by_kind[kind]:
                order.append(by_kind[kind].pop())
    return order


class Backup:
    """The original of the file that is mutated, kept on the disk too: not even a kill -9 loses it."""

    def __init__(self, folder: pathlib.Path, root: pathlib.Path):
        self.root = root
        self.content = folder / "mutation.original"
        self.name = folder / "mutation.path"

    def recover(self) -> None:
        if self.name.exists():
            path = self.root / self.name.read_text()
            path.write_bytes(self.content.read_bytes())
            print(f"mutation: restored {path}, which an earlier run had left changed")
            self.forget()

    def forget(self) -> None:
        self.name.unlink()
        self.content.unlink()

    @contextlib.contextmanager
    def applied(self, mutation: Mutation):
        original = mutation.path.read_bytes()
        self.content.write_bytes(original)
        self.name.write_text(str(mutation.path.relative_to(self.root)))
        try:
            mutation.path.write_text(mutation.apply(original.decode()))
            yield
        finally:
            # The file's time stays new: ninja must not take the mutant's object for the original's.
            mutation.path.write_bytes(original)
            self.forget()


def run(command: list[str], cwd: pathlib.Path, timeout_s: float) -> int | None:
    """The exit status; None if the time ran out. Nothing of it is left running."""
    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1", "GTEST_FAIL_FAST": "1"})
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("module", help="a folder of src, such as core or data")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="the copy or worktree to change files in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"),
                        help="build folder, from the root; one without unity builds compiles less each time")
    parser.add_argument("--dry-run", type=int, metavar="COUNT",
                        help="apply, print and restore COUNT mutants; build nothing")
    arguments = parser.parse_args()
    arguments.root = arguments.root.resolve()
    if arguments.root == HERE.parent:
        parser.error("--root: found the tree of this script, expected a copy or another worktree")
    if not (arguments.root / "src" / arguments.module).is_dir():
        parser.error(f"{arguments.root}/src/{arguments.module}: no such folder")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the file is restored
    root, build = arguments.root, arguments.root / arguments.build
    backup = Backup(build if build.is_dir() else root, root)
    backup.recover()
    choice = random.Random(arguments.seed)
    sources = sorted((root / "src" / arguments.module).rglob("*.cpp"))
    order = in_random_order([m for path in sources for m in mutations_of(path, choice)], choice)
    print(f"mutation: {len(order)} possible mutants in {len(sources)} files", flush=True)

    if arguments.dry_run is not None:
        for mutation in order[:arguments.dry_run]:
            text = mutation.path.read_text()
            with backup.applied(mutation):
                print(f"{mutation.kind}: {mutation.describe(text, root)}", flush=True)
        return 0

    target = f"{arguments.module}_test"
    ninja = ["ninja", "-C", str(build), target]
    test = [str(build / "bin" / target)]
    if run(ninja, root, BUILD_TIMEOUT_S) != 0:
        print(f"mutation: error: cannot build {target} as it is: {' '.join(ninja)}", file=sys.stderr)
        return 1
    begin = time.monotonic()
    if run(test, root, BUILD_TIMEOUT_S) != 0:
        print(f"mutation: error: {target} fails without a mutant", file=sys.stderr)
        return 1
    timeout_s = max(LEAST_TIMEOUT_S, 5 * (time.monotonic() - begin))

    counts = dict.fromkeys(("killed", "timed out", "survived", "not compiling"), 0)
    end = time.monotonic() + 60 * arguments.minutes
    try:
        for mutation in order:
            if time.monotonic() > end:
                break
            text = mutation.path.read_text()
            with backup.applied(mutation):
                if run(ninja, root, BUILD_TIMEOUT_S) != 0:
                    outcome = "not compiling"
                else:
                    status = run(test, root, timeout_s)
                    outcome = "timed out" if status is None else "survived" if status == 0 else "killed"
            counts[outcome] += 1
            if outcome == "survived":
                print(mutation.describe(text, root), flush=True)
    except KeyboardInterrupt:
        print("mutation: interrupted; the file is restored")
    finally:
        found, survived = counts["killed"] + counts["timed out"], counts["survived"]
        score = f"{100 * found / (found + survived):.1f} %" if found + survived else "none"
        print(f"mutation: score {score}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    run(ninja, root, BUILD_TIMEOUT_S)  # the build folder must not keep the last mutant either
    return 0


if __name__ == "__main__":
    sys.exit(main())
