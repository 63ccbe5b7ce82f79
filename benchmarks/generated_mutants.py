"""Which small changes of the code does no test notice? Every operator, comparison and number of a file, changed once.

    python benchmarks/generated_mutants.py                           all of PLACES; hours
    python benchmarks/generated_mutants.py --every 20 noise.py       each twentieth change of files of that name

``checker_mutations.py`` has the changes that must be noticed; here a survivor is a question. Some change nothing (a
bound that is never met exactly), the others want a test. What was found last is in CONTRIBUTING.md. A script of our own
and no mutation tester: those copy the sources to where the three folders of this package are not one.
"""

from __future__ import annotations

import argparse
import ast
import copy
from collections.abc import Iterator
from pathlib import Path

from checker_mutations import ROOT, Mutation, tried

#: Code, and the tests that are there to notice.
PLACES = {
    "ulsam_deploy/device/parity": "tests/ulsam_deploy/device/parity",
    "ulsam_deploy/graph/matching": "tests/ulsam_deploy/graph",
}
#: Not for this: they break the code themselves, or judge many artifacts.
LEFT_OUT = ("test_mutations.py", "test_faults.py")
OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip


def changed(node: ast.AST) -> ast.AST | None:
    """``node`` with one thing changed, or ``None`` where there is nothing to change."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and len(new.ops) == 1 and type(new.ops[0]) in OTHER:
        new.ops = [OTHER[type(new.ops[0])]()]  # type: ignore[list-item]
    elif isinstance(new, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(new.op) in OTHER:
        new.op = OTHER[type(new.op)]()  # type: ignore[assignment]
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not | ast.USub):
        return new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
        new.value = not new.value
    elif isinstance(new, ast.Constant) and isinstance(new.value, int | float):
        new.value += 1
    else:
        return None
    return new


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and all below it, without annotations, which compute nothing."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _computing(child)


def mutants(file: Path) -> Iterator[Mutation]:
    """Every change of ``file``; each mutation replaces the whole text, of which there is one."""
    text = file.read_text()
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    source = text.encode()
    for node in _computing(ast.parse(text)):
        if isinstance(node, ast.expr | ast.AugAssign) and (new := changed(node)):
            first = starts[node.lineno - 1] + node.col_offset
            last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            was, becomes = source[first:last].decode(), ast.unparse(new)
            becomes = becomes if isinstance(node, ast.AugAssign | ast.Constant) else f"({becomes})"
            spoiled = source[:first] + becomes.encode() + source[last:]
            what = f"{file.relative_to(ROOT)}:{node.lineno}: {' '.join(was.split())} -> {becomes}"
            yield Mutation(what, str(file.relative_to(ROOT)), text, spoiled.decode())


def noticed(mutation: Mutation, tests: str) -> bool:
    """Whether a test fails, the file of the same name first, or the code can't even be imported."""
    files = sorted(path for path in (ROOT / tests).glob("test_*.py") if path.name not in LEFT_OUT)
    files.sort(key=lambda path: path.stem != f"test_{Path(mutation.file).stem}")
    try:
        failed, _ = tried(mutation, "--exitfirst", "--timeout=120", *map(str, files))
    except SystemExit:
        return True
    return failed > 0


def main() -> None:
    """Print each survivor as it is found, and at last how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="names of files; without any, all")
    parser.add_argument("--every", type=int, default=1, help="try each N-th change only")
    parser.add_argument("--first", type=int, default=0, help="begin with that change")
    chosen = parser.parse_args()
    tries = [
        (mutation, tests)
        for place, tests in PLACES.items()
        for file in sorted((ROOT / place).glob("*.py"))
        if not chosen.files or file.name in chosen.files
        for mutation in mutants(file)
    ][chosen.first :: chosen.every]
    survivors = 0
    for mutation, tests in tries:
        if not noticed(mutation, tests):
            survivors += 1
            print(mutation.what, flush=True)
    print(f"{survivors} of {len(tries)} changes were not noticed")


if __name__ == "__main__":
    main()
