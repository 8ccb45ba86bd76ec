#!/usr/bin/env python3
"""arrows.py SOURCE_DIR ARROWS_FILE: compares who includes whom in src/ with what the modules declare.

ARROWS_FILE is what write_arrows() of cmake/module.cmake wrote. Fails on an include that is not declared, on a declared
arrow that no include uses, on DEPS that should be PRIVATE_DEPS or the other way round, and on a cycle.
"""
import re
import sys
from collections import defaultdict
from pathlib import Path

INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')
SUFFIXES = {".cc", ".h", ".inl", ".inc", ".cu", ".cuh"}


def read_declared(arrows_file):
    """-> {folder: module}, {(from, to): kind}"""
    modules, declared = {}, {}
    for line in arrows_file.read_text().splitlines():
        kind, first, second = line.split()
        if kind == "module":
            modules[second] = first
        else:
            declared[first, second] = kind
    return modules, declared


def module_of(modules, path):
    return modules.get(path.rpartition("/")[0])


def read_includes(source, modules):
    """-> {(from, to): [(file, line number)]}, errors"""
    includes, errors = defaultdict(list), []
    for file in sorted(f for f in (source / "src").rglob("*") if f.suffix in SUFFIXES):
        name = file.relative_to(source / "src").as_posix()
        module = module_of(modules, name)
        if module is None:
            errors.append(f"src/{name} belongs to no module")
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or match[1].startswith("liveavatar/"):  # the public headers are everybody's
                continue
            to = module_of(modules, match[1])
            if to is None:
                errors.append(f'src/{name}:{number}: "{match[1]}" is in no module; write it as "<folder of src>/<file>"')
            elif to != module:
                includes[module, to].append((name, number))
    return includes, errors


def check_public_headers(source):
    for file in sorted((source / "include").rglob("*.h*")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and not match[1].startswith("liveavatar/"):
                yield f'{file.relative_to(source)}:{number}: a public header includes "{match[1]}"'


def compare(includes, declared):
    for (module, to), places in sorted(includes.items()):
        kind = declared.get((module, to))
        where = f"src/{places[0][0]}:{places[0][1]}"
        in_header = [f"src/{name}:{number}" for name, number in places if not name.endswith((".cc", ".cu"))]
        if kind is None or kind == "LINKS":
            yield f"{where}: {module} includes {to} and does not declare it in DEPS"
        elif kind == "PRIVATE_DEPS" and in_header:
            yield f"{in_header[0]}: a header of {module} includes {to}, which belongs into DEPS"
        elif kind == "DEPS" and not in_header:
            yield f"{module} declares {to} in DEPS; no header includes it, so it belongs into PRIVATE_DEPS"
    for (module, to), kind in sorted(declared.items()):
        if kind != "LINKS" and (module, to) not in includes:
            yield f"{module} declares {to} in {kind} and includes nothing of it"


def find_cycle(arrows):
    """-> the modules along a cycle, the first one again at the end; empty if there is none"""
    below = defaultdict(list)
    for module, to in sorted(arrows):
        below[module].append(to)
    done = set()

    def walk(module, way):
        if module in way:
            return way[way.index(module):] + [module]
        if module in done:
            return []
        done.add(module)
        for to in below[module]:
            cycle = walk(to, way + [module])
            if cycle:
                return cycle
        return []

    for module in list(below):
        cycle = walk(module, [])
        if cycle:
            return cycle
    return []


def main():
    source = Path(sys.argv[1])
    modules, declared = read_declared(Path(sys.argv[2]))
    includes, errors = read_includes(source, modules)
    errors += check_public_headers(source)
    errors += compare(includes, declared)
    cycle = find_cycle(set(includes) | set(declared))
    if cycle:
        errors.append("a cycle: " + " -> ".join(cycle))
    print("\n".join(errors) or f"{len(modules)} modules, {len(declared)} arrows, all declared, used and down")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
