#!/usr/bin/env python3
"""report.py gpu-check.json performance.md: writes what gpu-check measured on a card into the page.

The card's section lies between the lines BEGIN and END; it takes the place of an older one of the same card.
"""
import json
import sys
from pathlib import Path

BEGIN, END = "<!-- gpu-check: begin -->", "<!-- gpu-check: end -->"
HEADING = "### "


class Refused(Exception):
    """One line for whoever runs it."""


def read_results(path):
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}") from None
    if not isinstance(results, dict) or "card" not in results or "steps" not in results:
        raise Refused(f"{path}: no card ran this check; its step `card` says why")
    if results["device"] == "cuda-emulated":
        raise Refused(f"{path}: of the emulated card, whose times say nothing")
    return results


def number(value):
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    text = f"{float(f'{value:.3g}'):.10f}".rstrip("0").rstrip(".")
    return text or "0"


def table(heads, rows):
    if not rows:
        return []
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines] + [""]


def figures_of(results):
    """(step, name, unit, value) of each figure."""
    for step, result in results["steps"].items():
        for key, value in result.get("figures", {}).items():
            name, unit = key.removesuffix(")").rsplit(" (", 1)
            yield step, name, unit, value


def against_torch(results):
    rows = []
    for name, c in results.get("against_torch", {}).items():
        ours, torch = (f"{number(c[side])} {c['unit']}" for side in ("ours", "torch"))
        rows.append([f"`{name}`", ours, torch, f"{c['ratio']:.2f}", c["variant"]])
    return table(["work", "ours", "PyTorch", "ratio", "PyTorch's best"], rows)


def alone(results):
    """Rates and times that have no other beside them."""
    compared = results.get("against_torch", {})
    rows = [[f"`{name}`", f"{number(value)} {unit}"] for step, name, unit, value in figures_of(results)
            if step in ("rates", "layers", "copies") and name not in compared]
    return table(["work", "ours"], rows)


def benches(results):
    rows = []
    for step, result in results["steps"].items():
        figures = result.get("figures", {})
        if step.startswith("bench.") and "frames_per_second (frames/s)" in figures:
            peak_gib = figures["charged_peak (bytes)"] / 2**30
            rows.append([f"`{step.removeprefix('bench.')}`", number(figures["frames_per_second (frames/s)"]),
                         number(figures["seconds_per_block (s)"]), number(peak_gib)])
    return table(["layers of the 14B model", "frames/s", "s a block", "peak, GiB"], rows)


def checks(results):
    """What passed, what did not, and what was not run."""
    passed, failed, not_run = [], [], []
    for step, result in results["steps"].items():
        if "not_run" in result:
            not_run.append(f"`{step}` ({result['not_run']})")
        elif result.get("cut_off"):
            not_run.append(f"`{step}` (cut off)")
        elif result["exit_code"] == 0:
            passed.append(f"`{step}`")
        else:
            failed.append(f"`{step}` (exit code {result['exit_code']})")
    not_run += [f"`{step}` (no time)" for step in results.get("skipped_for_time", [])]
    parts = [("Passed", passed), ("Failed", failed), ("Not run", not_run)]
    return [f"* {title}: {', '.join(names)}." for title, names in parts if names] + [""]


def section(results):
    """The lines of a card's section, and its heading."""
    heading = HEADING + results["card"].split(";")[0]
    date = results.get("date", "no date")
    lines = [heading, "", f"`gpu-check` of {date}. Above 1 the engine is faster.", ""]
    return heading, lines + checks(results) + against_torch(results) + alone(results) + benches(results)


def sections(lines):
    """Those that stand there: heading -> lines. What is before the first heading is dropped."""
    found, current = {}, None
    for line in lines:
        if line.startswith(HEADING):
            current = found.setdefault(line, [])
        if current is not None:
            current.append(line)
    return found


def update(page, results, path):
    lines = page.splitlines()
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or lines.index(BEGIN) > lines.index(END):
        raise Refused(f"{path}: write the line {BEGIN} and below it {END}, once each, where the figures belong")
    begin, end = lines.index(BEGIN), lines.index(END)
    found = sections(lines[begin + 1 : end])
    heading, text = section(results)
    found[heading] = text
    inside = [line for body in found.values() for line in body]
    return "\n".join([*lines[: begin + 1], *inside, *lines[end:]]) + "\n"


def main():
    if len(sys.argv) != 3:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    source, page = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        results = read_results(source)
        page.write_text(update(page.read_text(), results, page))
    except (Refused, OSError) as refusal:
        print(f"gpu-check: {refusal}", file=sys.stderr)
        return 1
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError):
        print(f"gpu-check: {source}: is not what gpu-check writes, or {page} is not UTF-8", file=sys.stderr)
        return 1
    print(f"{page}: {results['card'].split(';')[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
