"""Enumerate the mutants that mutmut makes of a tree, place each in its file, and draw a sample.

A mutant that changes nothing but a string with a space in it is left out: such a string is a
message for people, and no test should pin its wording.
"""

from __future__ import annotations

import ast
import io
import json
import random
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from pathlib import Path

# mutmut names the functions it writes xǁClassǁmethod__mutmut_3 and x_function__mutmut_orig.
CLASS_MARK = "ǁ"
NUMBER_MARK = "__mutmut_"
ORIGINAL = "orig"
STRING_PREFIXES = "rRbBuUfF"
# Imports the modules it is given and prints each function of the folder that runs meanwhile.
IMPORTER = """
import importlib, json, os, sys
ran = set()
def note(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(os.getcwd()) and code.co_name != "<module>":
        ran.add((os.path.relpath(code.co_filename), code.co_firstlineno))
sys.path.insert(0, os.getcwd())
sys.setprofile(note)
for name in sys.argv[1:]:
    importlib.import_module(name)
sys.setprofile(None)
print(json.dumps(sorted(ran)))
"""


@dataclass(frozen=True)
class Mutant:
    """One change at one line. ``name`` is mutmut's; ``file`` is relative to the tree."""

    name: str
    file: str
    line: int
    original: str
    mutant: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.original} -> {self.mutant}"


@dataclass(frozen=True)
class Source:
    """A file and its mutants; ``wordings`` counts those left out because they change a message."""

    file: str
    lines: int
    mutants: tuple[Mutant, ...]
    wordings: int


def sources(tree: Path, paths: Sequence[str]) -> list[Source]:
    """Every Python file below these paths. The tree must hold mutmut's configuration."""
    with chdir(tree):
        return [source_of(file) for path in paths for file in python_files(Path(path))]


def run_by_import(tree: Path, files: Iterable[str]) -> set[tuple[str, int]]:
    """The lines of those functions in these files that run while their package is imported."""
    packages = {tree / Path(file).parts[0] for file in files}
    modules = [module for package in packages for module in python_files(package)]
    names = [
        ".".join(module.relative_to(tree).with_suffix("").parts)
        for module in modules
        if not module.stem.startswith("__")
    ]
    printed = subprocess.run(
        [sys.executable, "-c", IMPORTER, *names], cwd=tree, capture_output=True, check=True
    )
    begun = {(file, begin) for file, begin in json.loads(printed.stdout)}
    return {
        (file, line)
        for file in files
        for node in ast.walk(ast.parse((tree / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (file, first_line(node)) in begun
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def first_line(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def source_of(file: Path) -> Source:
    """``file`` is relative to the working directory, where mutmut reads its configuration."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    code = file.read_text(encoding="utf-8")
    mutated = mutate_file_contents(str(file), code)
    written = mutated.code.splitlines(keepends=True)
    bodies = {name: written[begin - 1 : end] for name, begin, end in functions(mutated.code)}
    places = {name: begin for name, begin, _ in functions(code)}
    module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    mutants, wordings = [], 0
    for name in mutated.mutant_names:
        stem = name.rpartition(NUMBER_MARK)[0]
        original, changed = bodies[f"{stem}{NUMBER_MARK}{ORIGINAL}"], bodies[name]
        if is_wording(original, changed):
            wordings += 1
            continue
        offset, before, after = difference(original, changed)
        line = places[plain_name(stem)] + offset
        mutants.append(Mutant(f"{module}.{name}", file.as_posix(), line, before, after))
    return Source(file.as_posix(), code.count("\n"), tuple(mutants), wordings)


def functions(code: str) -> Iterator[tuple[str, int, int]]:
    """Name, first and last line of each function of a module and each method of its classes.

    A method is named ``Class.method``, except one that mutmut wrote: its own name has the class.
    """
    for node in ast.parse(code).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inner:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                name = function.name
                if isinstance(node, ast.ClassDef) and NUMBER_MARK not in name:
                    name = f"{node.name}.{name}"
                yield name, function.lineno, function.end_lineno or function.lineno


def plain_name(stem: str) -> str:
    """``Class.method`` of ``xǁClassǁmethod``, ``function`` of ``x_function``."""
    if CLASS_MARK in stem:
        _, class_name, method = stem.split(CLASS_MARK)
        return f"{class_name}.{method}"
    return stem.removeprefix("x_")


def difference(original: Sequence[str], changed: Sequence[str]) -> tuple[int, str, str]:
    """The offset from ``def`` of the first line that differs, and both versions from there on.

    The functions' names always differ and do not count.
    """
    left, right = [without_name(original), without_name(changed)]
    parts = [
        codes
        for codes in SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        if codes[0] != "equal"
    ]
    begin, end = parts[0][1], parts[-1][2]
    other_begin, other_end = parts[0][3], parts[-1][4]
    return begin, on_one_line(left[begin:end]), on_one_line(right[other_begin:other_end])


def without_name(lines: Sequence[str]) -> list[str]:
    head, _, parameters = lines[0].partition("(")
    return [f"{head.split('def ')[0]}def ...({parameters}", *lines[1:]]


def on_one_line(lines: Iterable[str], longest: int = 160) -> str:
    text = " ".join(line.strip() for line in lines) or "(nothing)"
    return text if len(text) <= longest else f"{text[:longest]}..."


def is_wording(original: Sequence[str], changed: Sequence[str]) -> bool:
    """Whether the change replaces or drops nothing but a message."""
    left, right = words(without_name(original)), words(without_name(changed))
    same = common_length(left, right)
    left, right = left[same:], right[same:]
    same = common_length(left[::-1], right[::-1])
    replaced = left[: len(left) - same]
    strings = [word for word in replaced if word != ","]
    return all(map(is_string, strings)) and any(" " in word for word in strings)


def common_length(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def words(lines: Sequence[str]) -> list[str]:
    """The tokens of a function, indented or not."""
    code = "if True:\n" + "".join(lines) if lines[0][0].isspace() else "".join(lines)
    read = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in read if token.string.strip()]


def is_string(word: str) -> bool:
    return word.lstrip(STRING_PREFIXES)[:1] in {'"', "'"}


def sample(found: Sequence[Source], size: int, seed: int) -> list[Mutant]:
    """Draw distinct mutants from each file in proportion to its lines, and shuffle them.

    A file with too few mutants for its share gives all it has; the rest carries over to the next.
    """
    chance = random.Random(seed)
    total = sum(source.lines for source in found if source.mutants)
    drawn: list[Mutant] = []
    carried = 0.0
    for source in found:
        if not source.mutants:
            continue
        carried += size * source.lines / total
        part = min(round(carried), len(source.mutants))
        carried -= part
        drawn += chance.sample(source.mutants, part)
    chance.shuffle(drawn)
    return drawn
