"""The engine against PyTorch, side by side in one run: same random weights, same inputs, same threads, bf16.

A target's outputs are compared before anything is timed. The rival is the quickest of PyTorch's variants (eager or
compiled; for the VAE also bf16 or f32, either memory layout, one or three latents at a time), found by a short trial.
Then both sides run alternately in rounds; the rounds least disturbed by other programs count. --ggml and --int8 add rivals.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

import targets

TARGETS = ("dit_1.3b", "dit_14b", "vae", "vae_mini", "wav2vec2", "umt5")
SAMPLE_MS = 300  # a sample of a faster run is the median of as many runs as fill this
SLOW_MS = 2000  # a slower variant is tried once
DISTURBED = 0.1  # a round with a larger share of other programs on all CPUs does not count
TOLERANCE = {"bf16": 0.03, "f32": 1e-5, "int8": 0.05}  # int8: against bf16, weights and activations


class Engine:
    """The process compare_side, controlled by commands."""

    def __init__(self, target, args, dtype):
        program = pathlib.Path(args.build) / "bin/compare_side"
        command = [str(program), target.model, str(target.folder), "--threads", str(args.threads), "--dtype", dtype]
        self.target = target
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("compare_pytorch: compare_side ended early; its message is above")
        return line.strip()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def output(self):
        self.ask("check")
        values = np.fromfile(self.target.folder / "ours.f32", np.float32)
        return torch.from_numpy(values).reshape(self.target.output_shape)

    def run(self, count):
        return [float(ms) for ms in self.ask(f"run {count}").split()]

    def base(self, count):
        return [float(ms) for ms in self.ask(f"base {count}").split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def sample(side, count, has_base):
    ms = statistics.median(side.run(count))
    return ms - statistics.median(side.base(count)) if has_base else ms


def relative_error(got, want):
    return float((got - want).double().square().mean().sqrt() / want.double().square().mean().sqrt())


def check_agrees(target, what, got, want, tolerance):
    """-> the error; ends the program where it is too large."""
    error = relative_error(target.visible(got), target.visible(want))
    if error > tolerance or error != error:
        sys.exit(f"compare_pytorch: {target.name}, {what}: relative rms error {error:.1e}, more than {tolerance}: nothing is timed")
    return error


class Trials:
    """ms: of every variant by name; rival: the quickest, whose name is best."""

    def __init__(self, best=None, rival=None, ms=float("inf")):
        self.best, self.rival, self.quickest = best, rival, ms
        self.ms = {best: ms} if best else {}

    def add(self, name, rival, ms):
        self.ms[name] = ms
        if ms < self.quickest:
            self.best, self.rival, self.quickest = name, rival, ms


def try_variants(target, ours, args, variants, tolerance):
    """-> those that run and agree; a line for each. Only the quickest is kept: a layer takes a GB or two."""
    good = Trials()
    for name, make in variants.items():
        try:
            rival = make()
            begin = time.perf_counter()
            out = rival.call()
            first = (time.perf_counter() - begin) * 1e3
        except Exception as e:  # a compiler can fail in many ways; the others still count
            print(f"  {name}: not possible here ({(str(e).strip() or type(e).__name__).splitlines()[0][:100]})")
            continue
        error = check_agrees(target, name, ours, out, tolerance)
        if args.check_only:
            print(f"  {name}: error {error:.1e}")
            good.add(name, rival, 0.0)
            continue
        if not name.startswith("eager"):  # the second call can have another layout and compile again; ggml's first call touches its memory
            rival.call()
            first = rival.run(1)[0]
        ms = first if first > min(SLOW_MS, 3 * good.quickest) else min(rival.run(3))
        print(f"  {name}: {ms:.1f} ms in a trial, error {error:.1e}", flush=True)
        good.add(name, rival, ms)
    return good


class Crowd:
    """The CPU share of other programs during a run."""

    def __init__(self, sides):
        engines = [side.process.pid for side in sides if isinstance(side, Engine)]
        self.pids, self.since = (os.getpid(), *engines), None

    def read(self):
        """Ticks used by all, used by us, and available."""
        all_cpus = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        own = 0
        for pid in self.pids:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            own += int(fields[11]) + int(fields[12])
        idle = all_cpus[3] + all_cpus[4]
        return sum(all_cpus) - idle, own, sum(all_cpus)

    def start(self):
        self.since = self.read()

    def share(self):
        busy, own, ticks = (now - then for now, then in zip(self.read(), self.since))
        return max(0.0, (busy - own) / max(1, ticks))


def versus(sides, trial_ms, target, args):
    """Both alternately -> their samples, and the CPU share of others. A disturbed round is repeated, up to a limit.
    sides: name -> engine or rival."""
    fill_ms = 0 if args.tiny else SAMPLE_MS
    counts = [max(1, round(fill_ms / ms)) for ms in trial_ms]
    rounds, crowd = [], Crowd(sides.values())
    for _ in range(2 * args.repeats):
        crowd.start()
        times = [sample(side, count, target.has_base) for side, count in zip(sides.values(), counts)]
        rounds.append((crowd.share(), *times))
        print("  " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in zip(sides, times)) + f", others {rounds[-1][0]:.0%}", flush=True)
        if sum(share < DISTURBED for share, *_ in rounds) == args.repeats:
            break
    quiet = sorted(rounds, key=lambda round_: round_[0])[:args.repeats]
    return [r[1] for r in quiet], [r[2] for r in quiet], max(r[0] for r in quiet)


def against(label, engine, good, target, args, rivals_name):
    """-> a result: the engine and the quickest of `good`, alternately."""
    ours_ms, theirs_ms, others = versus({"ours": engine, rivals_name: good.rival}, [engine.run(1)[0], good.quickest], target, args)
    return dict(target=label, what=target.what, engine=engine.description, best=good.best, trials_ms=good.ms, ours_ms=ours_ms, theirs_ms=theirs_ms,
                others=others)


def int8_results(target, engine, ours, args):
    """The engine with int8 weights and activations, compared with itself in bf16 and, with --ggml, with q8_0 of ggml."""
    narrow = Engine(target, args, "int8")
    output = narrow.output()
    error = check_agrees(target, "int8", output, ours, TOLERANCE["int8"])
    print(f"  int8: error {error:.1e} against bf16")
    label = target.name + " int8"
    results = [against(label, narrow, Trials("the engine in bf16", engine, engine.run(1)[0]), target, args, "bf16")]
    if args.ggml:
        good = try_variants(target, output, args, target.ggml_variants(["q8_0"]), TOLERANCE["int8"])
        results += [against(label, narrow, good, target, args, "ggml")] if good.rival else []
    narrow.close()
    return results


def compare(name, args):
    """-> results: against PyTorch, and the other rivals that were asked for."""
    with tempfile.TemporaryDirectory(prefix="compare_") as folder:
        target = targets.make(name, pathlib.Path(folder), args)
        print(f"{name}: {target.what}", flush=True)
        engine = Engine(target, args, args.dtype)
        ours, tolerance = engine.output(), TOLERANCE[args.dtype]
        good = try_variants(target, ours, args, target.variants(args), tolerance)
        if not good.rival:
            sys.exit(f"compare_pytorch: {name}: no variant of PyTorch runs here")
        results = []
        if not args.check_only:
            results.append(against(name, engine, good, target, args, "PyTorch"))
            if args.profile:
                with torch.profiler.profile() as profile:
                    good.rival.call()
                print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))
        if args.ggml and target.model == "dit":
            good = try_variants(target, ours, args, target.ggml_variants(["bf16", "f16"]), tolerance)
            results += [against(name, engine, good, target, args, "ggml")] if good.rival and not args.check_only else []
        if args.int8 and target.model == "dit" and not args.check_only:
            results += int8_results(target, engine, ours, args)
        engine.close()
    return results


def spread(samples):
    return (max(samples) - min(samples)) / statistics.median(samples)


def report(results):
    width = max(10, *(len(r["target"]) for r in results))
    print(f"\n{'':{width}} {'ours ms':>9} {'spread':>7} {'theirs ms':>10} {'spread':>7} {'ratio':>6} {'others':>7}  the best of theirs")
    for r in results:
        ours, theirs = statistics.median(r["ours_ms"]), statistics.median(r["theirs_ms"])
        r["ratio"] = theirs / ours
        print(f"{r['target']:{width}} {ours:9.1f} {spread(r['ours_ms']):7.0%} {theirs:10.1f} {spread(r['theirs_ms']):7.0%} "
              f"{r['ratio']:6.2f} {r['others']:7.0%}  {r['best']}")


def cpu_kind():
    lines = dict(line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines() if ":" in line)
    info = {k.strip(): v.strip() for k, v in lines.items()}
    flags = info.get("flags", "").split()
    isa = [f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in flags]
    return f"{info.get('model name', 'unknown CPU')}, family {info.get('cpu family', '?')} model {info.get('model', '?')}, {' '.join(isa)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, with commas between: %(default)s")
    parser.add_argument("--build", default="build/release", help="folder that has bin/compare_side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16", help="of both sides")
    parser.add_argument("--int8", action="store_true", help="of dit_1.3b and dit_14b also the engine with int8 weights and activations against itself in bf16")
    parser.add_argument("--ggml", action="store_true", help="of dit_1.3b and dit_14b also ggml, by the Python package llama-cpp-python; with --int8 its q8_0 too")
    parser.add_argument("--variants", default="", help="only those of PyTorch's variants whose name has one of these words in it")
    parser.add_argument("--json", help="file for all samples")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to test the script")
    parser.add_argument("--check_only", action="store_true", help="compare the outputs, time nothing")
    parser.add_argument("--profile", action="store_true", help="where PyTorch's time goes")
    parser.add_argument("--latents", type=int, default=3, help="of a VAE's timed run, four frames each")
    args = parser.parse_args()
    names = args.only.split(",")
    unknown = [n for n in names if n not in TARGETS]
    if unknown:
        sys.exit(f"compare_pytorch: '{unknown[0]}' is none of {', '.join(TARGETS)}")
    if not (pathlib.Path(args.build) / "bin/compare_side").exists():
        sys.exit(f"compare_pytorch: {args.build}/bin/compare_side is not there; build the target compare_side, or give --build DIR")
    if (args.int8 or args.ggml) and args.dtype != "bf16":
        sys.exit("compare_pytorch: --int8 and --ggml are compared with bf16: leave --dtype out")
    torch.set_num_threads(args.threads)
    print(f"{cpu_kind()}; {args.threads} threads, {args.dtype}, PyTorch {torch.__version__}")
    with torch.no_grad():
        results = [result for name in names for result in compare(name, args)]
    if args.check_only:
        return
    report(results)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(dict(cpu=cpu_kind(), threads=args.threads, dtype=args.dtype, torch=torch.__version__,
                                                           results=results), indent=2) + "\n")


if __name__ == "__main__":
    main()
