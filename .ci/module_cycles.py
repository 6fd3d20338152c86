#!/usr/bin/env python3
"""Proves that no source file of a crate imports, by way of others, itself.

Reads every `crates/*/src`, resolves the paths that begin with `crate`, `super`, `self` or a child module
through re-exports to the file that defines the item, and prints every circle with the paths that close it.
Tests may look wherever they like. Exit status 1 if there is a circle.
"""

import re
import sys
from pathlib import Path

TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/|r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\.[^']*|[^'\\])'", re.S
)
TEST_MODULE = re.compile(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))? )?mod (\w+)\s*([;{])", re.S)
USE = re.compile(r"(?:^|[;{}\n])\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:$])((?:crate|super|self|[a-z_]\w*)(?:::\w+)+)")


def code(text):
    """The source without comments, literals and test modules."""
    text = TOKEN.sub(lambda m: "" if m.group().startswith("/") else '""', text)
    tests = set()
    while match := TEST_MODULE.search(text):
        end = match.end()
        if match.group(2) == "{":
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
        else:
            tests.add(match.group(1))
        text = text[: match.start()] + text[end:]
    return text, tests


def leaves(tree, prefix=()):
    """The paths of a `use` tree, each with the name that it gets."""
    tree = tree.strip()
    if "{" in tree:
        head, inner = tree.split("{", 1)
        head = [s for s in head.strip().split("::") if s]
        depth, start, inner = 0, 0, inner.rsplit("}", 1)[0] + ","
        for i, letter in enumerate(inner):
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                if part := inner[start:i].strip():
                    yield from leaves(part, (*prefix, *head))
                start = i + 1
    else:
        path, _, name = tree.partition(" as ")
        path = (*prefix, *(s.strip() for s in path.split("::")))
        if path[-1] == "self":
            path = path[:-1]
        yield path, name.strip() or path[-1]


class Crate:
    def __init__(self, root):
        self.files, self.sources, self.exports = {}, {}, {}
        for file in sorted(root.rglob("*.rs")):
            module = file.relative_to(root).with_suffix("").parts
            if module[-1] in ("lib", "main", "mod"):
                module = module[:-1]
            self.files[module] = file
        skipped = set()
        for module, file in self.files.items():
            text, tests = code(file.read_text())
            self.sources[module] = text
            skipped |= {(*module, name) for name in tests}
        for module in [m for m in self.files if m in skipped or m[-1:] == ("tests",)]:
            del self.files[module], self.sources[module]
        for module, text in self.sources.items():
            uses = [leaf for _, tree in USE.findall(text) for leaf in leaves(tree)]
            self.exports[module] = {name: path for path, name in uses}

    def resolve(self, module, path, seen=()):
        """The module whose file defines what a path in `module` means; None for other crates."""
        at, rest = module, list(path)
        if rest[0] == "crate":
            at, rest = (), rest[1:]
        elif rest[0] == "self":
            rest = rest[1:]
        elif rest[0] == "super":
            while rest and rest[0] == "super":
                at, rest = at[:-1], rest[1:]
        elif (*at, rest[0]) not in self.files:
            return None
        while rest:
            if (*at, rest[0]) in self.files:
                at, rest = (*at, rest[0]), rest[1:]
                continue
            target = self.exports.get(at, {}).get(rest[0])
            if target and (at, rest[0]) not in seen:
                found = self.resolve(at, (*target, *rest[1:]), (*seen, (at, rest[0])))
                return at if found is None else found
            break
        return at

    def edges(self):
        """From every module to those that it names, with a path that does so."""
        edges = {module: {} for module in self.files}
        for module, text in self.sources.items():
            uses = [path for _, tree in USE.findall(text) for path, _ in leaves(tree)]
            body = USE.sub(";", text)
            for path in [*uses, *(tuple(p.split("::")) for p in PATH.findall(body))]:
                target = self.resolve(module, path)
                if target is not None and target != module and target in self.files:
                    edges[module].setdefault(target, "::".join(path))
        # What a module only hands on is no import of its own.
        for module, text in self.sources.items():
            handed = {p for public, tree in USE.findall(text) if public for p, _ in leaves(tree)}
            others = {p for public, tree in USE.findall(text) if not public for p, _ in leaves(tree)}
            body = {tuple(p.split("::")) for p in PATH.findall(USE.sub(";", text))}
            used = {self.resolve(module, p) for p in others | body}
            for path in handed:
                target = self.resolve(module, path)
                if target not in used:
                    edges[module].pop(target, None)
        return edges


def circles(edges):
    """Strongly connected components of more than one module (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in edges:
        if node not in index:
            visit(node)
    return found


def main():
    sys.setrecursionlimit(10_000)
    root, bad = Path(__file__).parent.parent, 0
    for source in sorted(root.glob("crates/*/src")):
        crate = Crate(source)
        edges = crate.edges()
        for component in circles(edges):
            bad += 1
            print(f"{source.parent.name}: a circle of {len(component)} files")
            for module in component:
                for target, path in edges[module].items():
                    if target in component:
                        names = (crate.files[m].relative_to(source) for m in (module, target))
                        print("  {} → {}: {}".format(*names, path))
    sys.exit(bad > 0)


main()
