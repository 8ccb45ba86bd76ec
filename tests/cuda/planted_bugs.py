#!/usr/bin/env python3
"""planted_bugs.py CONFIG WORK_DIR [NAME...]: the tests of kernels find bugs, one planted at a time.

Each bug is an edit of a copy of the kernels. The copy is compiled as checked kernels are and linked with the tests, of
which one must fail and name the finding; without a bug the same build must pass. CONFIG is planted_bugs.json, which
CMake writes. With NAMEs only bugs whose name contains one of them.
"""
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RACE = "since the last barrier"
IN_FLIGHT = "is still copying into"
OVERRUN = "bytes behind the end of an allocation"
WRONG = "wrong result"


@dataclass
class Bug:
    name: str
    file: str  # of kernels/
    unit: str  # the .cu that is compiled
    old: str
    new: str
    finding: str


def gemm(name, old, new, finding, file="gemm.cuh"):
    return Bug("gemm: " + name, file, "gemm.cu", old, new, finding)


def conv(name, old, new, finding, file="product_input.cuh"):
    return Bug("conv: " + name, file, "conv.cu", old, new, finding)


def linear_8bit(name, old, new, finding, file="gemm.cuh"):
    return Bug("linear 8 bit: " + name, file, "linear_8bit.cu", old, new, finding)


def attention(name, old, new, finding, file="attention.cuh"):
    return Bug("attention: " + name, file, "attention.cu", old, new, finding)


def rows(name, old, new, finding, file="rows.cuh"):
    return Bug(name, file, "rows.cu", old, new, finding)


def product(name, old, new, finding, file="product_f32.cuh"):
    return Bug("product f32: " + name, file, "product_f32.cu", old, new, finding)


def quantise(name, old, new, finding, file="quantise.cuh"):
    return Bug("quantise: " + name, file, "quantise.cu", old, new, finding)


def elements(name, old, new, finding, file="elements.cuh"):
    return Bug("elements: " + name, file, "elements.cu", old, new, finding)


def layouts(name, old, new, finding, file="layouts.cuh"):
    return Bug("layouts: " + name, file, "layouts.cu", old, new, finding)


def attention_f32(name, old, new, finding, file="attention_f32.cuh"):
    return Bug("attention f32: " + name, file, "attention_f32.cu", old, new, finding)


BUGS = [
    gemm("no barrier behind the wait",
         "    sync_threads();  // all threads' tiles", "    // all threads' tiles", RACE),
    gemm("no wait for copies", "    wait_copies<S::kStages - 2>();\n", "", IN_FLIGHT),
    gemm("the wait leaves one group too many", "wait_copies<S::kStages - 2>", "wait_copies<S::kStages - 1>", IN_FLIGHT),
    gemm("a stage is filled again before the barrier",
         "    wait_copies<S::kStages - 2>();\n    unpack<S>(scales, step);\n    sync_threads();",
         "    prefetch<S>(p, rows, step + S::kStages - 1);\n    wait_copies<S::kStages - 1>();\n"
         "    unpack<S>(scales, step);\n    sync_threads();\n    if (step < 0)", IN_FLIGHT),
    gemm("a group is committed only if something is copied",
         "  }\n  commit_copies();  // also", "    commit_copies();\n  }  // also",
         IN_FLIGHT),
    gemm("values are unpacked before they have landed",
         "    wait_copies<S::kStages - 2>();\n    unpack<S>(scales, step);",
         "    unpack<S>(scales, step);\n    wait_copies<S::kStages - 2>();", IN_FLIGHT),
    gemm("values are unpacked behind the barrier",
         "    unpack<S>(scales, step);\n    sync_threads();  // all threads' tiles",
         "    sync_threads();\n    unpack<S>(scales, step);  // all threads' tiles", RACE),
    gemm("a block's scale of the step before", "(step + 1) * kGemmDepth", "step * kGemmDepth", WRONG),
    gemm("no barrier before acc overwrites the tiles", "  sync_threads();  // before acc", "  // before acc", RACE),
    gemm("no barrier before acc is read", "  sync_threads();\n  store_out", "  store_out", "nobody wrote"),
    gemm("rows and columns of a fragment are swapped",
         "place.lane / 4 + h * 8;\n        const int c = place.warp_column + j * 8 + place.lane % 4 * 2",
         "place.lane % 8 + h * 8;\n        const int c = place.warp_column + j * 8 + place.lane / 8 * 2", WRONG),
    gemm("a wrong element of a fragment", "acc[i][j][2 * h + 1])}", "acc[i][j][h + 1])}", WRONG),
    gemm("addresses of ldmatrix are swapped", "n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8",
         "n + lane / 8 % 2 * 8 + lane % 8, k + lane / 16 * 8", WRONG, "tile.cuh"),
    gemm("one row too many is read", "r < rows ?", "r <= rows ?", OVERRUN, "product_input.cuh"),
    gemm("columns behind k are read", "exists = first < x.k_end", "exists = first <= x.k_end", OVERRUN,
         "gemm_tiles.cuh"),
    gemm("weights behind the last row are read", "column < p.group_columns ?", "column <= p.group_columns ?", OVERRUN),
    gemm("the lowest bits of an f32 are lost", "part < S::kParts; ++part) {\n      *re",
         "part < 2; ++part) {\n      *re",
         "nobody wrote", "gemm_tiles.cuh"),
    gemm("parts of an f32 overlap", "rest[e]) & 0xffff0000u)", "rest[e]) & 0xfffe0000u)", WRONG, "gemm_tiles.cuh"),
    gemm("halves of a word are swapped", "as_bits(values[2 * i]) >> 16 | (as_bits(values[2 * i + 1])",
         "as_bits(values[2 * i + 1]) >> 16 | (as_bits(values[2 * i])", WRONG, "tile.cuh"),
    gemm("a row's scale for all rows", "weight_scale<typename S::W>(p.w, column, 0)",
         "weight_scale<typename S::W>(p.w, 0, 0)", WRONG),
    gemm("the scale of a row that does not exist",
         "exists ? weight_scale<Nibbles>", "first < w.k ? weight_scale<Nibbles>", OVERRUN, "gemm_tiles.cuh"),
    gemm("chunks of unpacked values have the swizzle of the first", "WShare<S>::column() + first);",
         "WShare<S>::column()) + first;", RACE, "gemm_tiles.cuh"),
    gemm("rows behind m are written", "if (place.row + r >= p.x.rows) break;", "", OVERRUN),
    gemm("columns behind n are written", "  if (place.column + c >= p.group_columns) return;\n", "", OVERRUN),
    gemm("a gate's row for each row", "row / p.rows_per_gate", "row", OVERRUN, "product_args.cuh"),
    gemm("two blocks compute the same rows", "grid{blocks, 1,", "grid{blocks, 2,",
         "in the same launch", "gemm_launch.cuh"),
    gemm("too little shared memory",
         "S::kSharedBytes}", "S::kSharedBytes - 1024}", "outside of shared memory", "gemm_launch.cuh"),
    gemm("vectors of rows that are misaligned", "k_end % count == 0 && ", "", "not aligned", "product_input.cuh"),
    gemm("no swizzle", "(((column / kChunk) ^ (row % 8)) * kChunk)", "(column / kChunk * kChunk)", "bank_conflicts",
         "tile.cuh"),
    conv("the columns of a tile are those of one pixel", "k % group_channels +", "k % 64 +", OVERRUN),
    conv("vectors over the end of a pixel", "group_channels % count == 0 && ", "", "not aligned"),
    conv("a pixel right of the last counts", "x_at >= width", "x_at > width", OVERRUN),
    conv("all groups read the first one's channels", "k % group_channels + int(blockIdx.z) * group_channels",
         "k % group_channels", WRONG),
    conv("all groups have the first one's weights", "int64_t n = int64_t(blockIdx.z) * p.group_columns + column",
         "int64_t n = column", WRONG, "gemm.cuh"),
    linear_8bit("a row's scale for each block", "p.x.scale[place.row + r]", "p.x.scale[r]", WRONG),
    linear_8bit("rows of out from the first on", "p.first_row + place.row + r", "place.row + r", WRONG),
    linear_8bit("columns have no scale", " || kIsPair<W>", "", WRONG, "packed_weights.cuh"),
    linear_8bit("rows are as long as k", "int(c.w.row_bytes / 2)", "int((c.w.k + 1) / 2)", "not aligned",
                "product_args.cuh"),
    linear_8bit("weights behind the end of a row are read", "  w.k = pairs;\n", "", OVERRUN, "product_args.cuh"),
    linear_8bit("bytes of int8 are multiplied as e4m3", "  using Type = int;", "  using Type = float;", WRONG,
                "pairs.cuh"),
    attention("values are not transposed", "load_matrices_transposed(b,", "load_matrices(b,", WRONG, "tile.cuh"),
    attention("one key too many counts", "key < keys ?", "key <= keys ?", WRONG),
    attention("no wait for queries",
              "  wait_copies<0>();\n  sync_threads();\n  uint32_t q", "  sync_threads();\n  uint32_t q",
              IN_FLIGHT),
    attention("no barrier before a slot is filled again",
              "    sync_threads();  // before the slot", "    // before the slot", RACE),
    attention("one row's factor for both rows", "out[n][e] *= factor[e / 2]", "out[n][e] *= factor[0]", WRONG),
    attention("the sum is not rescaled", "softmax.sum[h] * factor[h] + sum", "softmax.sum[h] + sum", WRONG),
    attention("one empty segment is skipped and no more", "while (c.segment", "if (c.segment", WRONG),
    attention("one row too many is read", "row + r < matrix.rows", "row + r <= matrix.rows", OVERRUN, "tile.cuh"),
    attention("columns behind the head are read", " && c < matrix.columns", "", OVERRUN, "tile.cuh"),
    attention("no barrier behind the unpacking", "    }\n    sync_threads();\n", "    }\n", IN_FLIGHT),
    attention("bytes are unpacked before they have landed", "    wait_copies<1>();\n    if", "    if", IN_FLIGHT),
    attention("the scale of another head", "* a.heads + blockIdx.y : x", "* a.heads : x", WRONG),
    attention("one scale too many is read", "exists = first + r < length", "exists = first + r <= length", OVERRUN),
    attention("rows without a scale have that of the tile before", "    scales[r] = 1;\n", "", "nobody wrote"),
    attention("values have the scales of keys", "value_scales<S>(slot), lane", "key_scales<S>(slot), lane", WRONG),
    attention("the sum has the scales of values",
              "    update<S>(softmax, scores, factor);\n"
              "    if constexpr (S::kEightBit) scale_keys<S>(scores, value_scales<S>(slot), lane);\n",
              "    if constexpr (S::kEightBit) scale_keys<S>(scores, value_scales<S>(slot), lane);\n"
              "    update<S>(softmax, scores, factor);\n", WRONG),
    attention("queries behind the last are written", "if (row >= a.queries) continue;", "", OVERRUN),
    attention("the padding of a head is written", "if (n * 8 < a.head) ", "", "global memory"),
    rows("norm: no barrier before warps' sums are read", "of_warps[threadIdx.x / 32] = v;\n  sync_threads();",
         "of_warps[threadIdx.x / 32] = v;", "nobody wrote"),
    rows("norm: no barrier before warps' sums are used again",
         "  sync_threads();  // before of_warps", "  // before of_warps", RACE),
    rows("norm: one warp's sum too many", "w < kRowThreads / 32", "w <= kRowThreads / 32", "outside of shared memory"),
    rows("norm: vectors of 4 in rows that are misaligned",
         "if (c.width % 4 == 0) return launch(l", "if (c.width % 4 >= 0) return launch(l", "not aligned", "rows.cu"),
    rows("norm: a lane misses a shuffle", "lanes /= 2) v += shuffle_xor(v, lanes);",
         "lanes /= 2) {\n    if (threadIdx.x != 37) v += shuffle_xor(v, lanes);\n  }", "deadlock"),
    rows("norm: a barrier in one warp only", "  if (threadIdx.x % 32 == 0) of_warps",
         "  if (threadIdx.x < 32) sync_threads();\n  if (threadIdx.x % 32 == 0) of_warps", "waits in another"),
    rows("norm: a group's scale for each row", "row / a.rows_per_group", "row", OVERRUN),
    rows("rms norm: warps sum parts of a row twice", "share{int(threadIdx.x), kRowThreads}",
         "share{int(threadIdx.x), 32}", WRONG),
    rows("rms norm: rows behind the last", "  if (row >= a.rows) return;\n", "", OVERRUN),
    rows("rms norm: NaN is lost", "(length < 1e-12f ? 1e-12f : length)", "fmaxf(length, 1e-12f)", WRONG),
    rows("rope: no tail", "  if (at >= r.rows * width) return;\n", "", OVERRUN),
    rows("rope: a wrong row of the table", "[row * r.pairs + pair]", "[row * width + pair]", OVERRUN),
    quantise("heads behind the last", "  if (at >= a.heads) return;\n", "", OVERRUN),
    quantise("half of a warp is left out of the maximum", "int lanes = 16;", "int lanes = 8;", WRONG),
    quantise("all lanes write a scale", "if (lane == 0) scale[at]", "scale[at + lane]", OVERRUN),
    quantise("a product by an inverse in place of a division", "largest / Format::kTop",
             "largest * (1.0f / Format::kTop)", WRONG),
    quantise("vectors at misaligned addresses",
             "hold_vectors(x, out);\n  const auto kernel = wide ? quantise",
             "true;\n  const auto kernel = wide ? quantise", "not aligned", "quantise.cu"),
    quantise("the padding is not written", "p < padded_head / kWide", "p < chunks", WRONG),
    quantise("the padding is read", "    if (p < chunks) v = source[p];", "    v = source[p];", OVERRUN),
    quantise("ties of e4m3 go up", "((magnitude >> 20) & 1)", "1", WRONG, "eight_bit_float.cuh"),
    quantise("subnormal e4m3 are cut off", "rintf(size * 0x1p9f)", "size * 0x1p9f", WRONG, "eight_bit_float.cuh"),
    quantise("NaN of e4m3 becomes 480", "if (magnitude == 0x7f) return", "if (magnitude == 0x80) return", WRONG,
             "eight_bit_float.cuh"),
    elements("y is not repeated", "[divide(at, a.y_elements / kWide).remainder]", "[at]", OVERRUN),
    elements("the tail of a sum", "  if (at * kWide >= a.elements) return;\n  Vec<X, kWide> left = reinterpret_cast<const Vec<X, kWide>*>(x)[at];",
             "  Vec<X, kWide> left = reinterpret_cast<const Vec<X, kWide>*>(x)[at];", OVERRUN),
    elements("vectors although y's length is odd", "c.y_elements % 4 == 0 && ", "", WRONG, "elements.cu"),
    elements("vectors at misaligned addresses", " && hold_vectors(x, y, out)", "", "not aligned", "elements.cu"),
    elements("the tail of a finished product", "  if (at * kWide >= a.elements) return;\n  const Division row",
             "  const Division row", OVERRUN),
    elements("the gate of the first rows for all", " + divide(row.quotient, a.rows_per_gate).quotient * a.n", "", WRONG),
    elements("no bias", "if (bias != nullptr) y.at[i] += bias[i];", "", WRONG),
    elements("the activation behind the gate", "y.at[i] = activate(y.at[i], a.activation);\n    if (gate != nullptr) y.at[i] *= gate[i];",
             "if (gate != nullptr) y.at[i] *= gate[i];\n    y.at[i] = activate(y.at[i], a.activation);", WRONG),
    elements("vectors of a product of odd width", "c.n % 4 == 0 && ", "", WRONG, "elements.cu"),
    elements("clamp loses NaN", "x < low ? low : (x > high ? high : x)", "fminf(fmaxf(x, low), high)", WRONG),
    elements("a copy's unit does not divide its source", "reinterpret_cast<uintptr_t>(c.from) | ", "", "not aligned",
             "elements.cu"),
    elements("rows are copied by the wrong stride", "* a.to_stride", "* a.from_stride", WRONG),
    elements("the bias is mirrored", "- query.remainder + key", "+ query.remainder - key", OVERRUN),
    layouts("what is left over shifts a patch", "a.columns / a.pw;\n", "(a.columns + a.pw - 1) / a.pw;\n", WRONG),
    layouts("features in the other order", "? feature / patch : feature % a.channels",
            "? feature % a.channels : feature / patch", WRONG),
    layouts("no barrier before a tile is read", "  sync_threads();\n", "", "nobody wrote"),
    layouts("a tile overlaps the next", "* S::kChannels;", "* (S::kChannels - 1);", "in the same launch"),
    layouts("pixels behind the last", "pixels < S::kPixels ? pixels : S::kPixels", "S::kPixels", OVERRUN),
    Bug("8 bit: words of a fragment are swapped",
        "eight_bit.cuh", "eight_bit.cu", "word(b, g, t * 4), word(b, g, t * 4 + 16)",
        "word(b, g, t * 4 + 16), word(b, g, t * 4)", WRONG),
    product("no barrier behind the fill", "    sync_threads();  // the tiles", "    // the tiles", "nobody wrote"),
    product("one pair of tiles", "k / kProductDepth % 2 * 2", "0", RACE),
    product("rows behind m are written", "row >= p.x.rows || ", "", OVERRUN),
    product("columns behind n are written", " || first_column + c >= p.group_columns", "", OVERRUN),
    product("a gate's row for each row", "row / p.rows_per_gate", "row", OVERRUN, "product_args.cuh"),
    product("weights behind the last row are read", "p.group_columns - first_column, k", "kProductTile, k", OVERRUN),
    product("columns behind k are read", "exists = k + c < x.k_end", "exists = k + c <= x.k_end", OVERRUN,
            "product_input.cuh"),
    product("rows behind m are read", "r < rows ?", "r <= rows ?", OVERRUN, "product_input.cuh"),
    product("x of history counts from its first frame", "      frame -= history_frames;\n", "", OVERRUN,
            "product_input.cuh"),
    product("a pixel right of the last counts", "x_at >= width", "x_at > width", OVERRUN, "product_input.cuh"),
    product("all groups read the first one's channels", "k % group_channels + int(blockIdx.z) * group_channels",
            "k % group_channels", WRONG, "product_input.cuh"),
    product("scales are behind 64 rows in the last group", "(rows_left < kGroupRows ? rows_left : kGroupRows)",
            "kGroupRows", OVERRUN, "packed_weights.cuh"),
    product("a row's scales for all rows", "scales)[n - first];", "scales)[0];", WRONG, "packed_weights.cuh"),
    product("the high half of a byte is first", "bits & 15) - 8", "bits >> 4) - 8", WRONG, "packed_weights.cuh"),
    product("e4m3 has no NaN", "magnitude == 0x7f", "magnitude == 0x80", WRONG, "eight_bit_float.cuh"),
    product("vectors of rows that are misaligned", "k_end % count == 0 && ", "", OVERRUN, "product_input.cuh"),
    attention_f32("no barrier before keys are read", "    sync_threads();  // keys", "    // keys", "nobody wrote"),
    attention_f32("no barrier before values overwrite keys",
                  "    sync_threads();  // scores are", "    sync_warp();  // scores are", RACE),
    attention_f32("no barrier before exponentials overwrite scores",
                  "  sync_warp();  // all lanes", "  // all lanes", RACE),
    attention_f32("no barrier before values are read", "    sync_threads();  // values", "    // values", RACE),
    attention_f32("no barrier before keys overwrite values",
                  "    sync_threads();  // nobody reads values", "    // nobody reads values", RACE),
    attention_f32("one key too many is read", "first + r < rows", "first + r <= rows", OVERRUN),
    attention_f32("one key too many counts", "tile.first + lane < a", "tile.first + lane <= a", WRONG),
    attention_f32("the padding of a head is read", " && column < head", "", OVERRUN),
    attention_f32("the padding of a head is written", "if (column >= a.head) continue;", "", OVERRUN),
    attention_f32("columns behind the head are multiplied", "if (column >= head) continue;", "", "nobody wrote"),
    attention_f32("queries behind the last are written", "if (first_query + i >= a.queries) continue;", "", OVERRUN),
    attention_f32("a query behind the last has a bias", " && first_query + i < a.queries", "", OVERRUN),
    attention_f32("a segment's bias begins at its first key", "tile.before + tile.first", "tile.first", WRONG),
    attention_f32("a last key alone in its tile is left out", "t.first + kTileKeys >= length",
                  "t.first + kTileKeys + 1 >= length", WRONG),
    attention_f32("the sum is not rescaled", "    softmax.sum.at[i] *= factor.at[i];\n", "", WRONG),
    attention_f32("scores begin at minus infinity", "{-3e38f, -3e38f, -3e38f, -3e38f}",
                  "{-INFINITY, -INFINITY, -INFINITY, -INFINITY}", "Which is: "),
    attention_f32("vectors of heads that are misaligned", "if (head % 4 != 0) return false;", "", "not aligned",
                  "attention_f32.cu"),
]
FILTERS = {"gemm.cu": "*CudaGemm*", "conv.cu": "*CudaConv.*", "linear_8bit.cu": "*CudaLinear8bit*",
           "attention.cu": "*CudaAttention.*", "quantise.cu": "*CudaQuantise*",
           "rows.cu": "*CudaLayerNorm*:*CudaRmsNorm*:*CudaRope*",
           "elements.cu": "*CudaBinary*:*CudaActivate*:*CudaElements*:*CudaCopyRows*:*CudaFinishProduct*",
           "layouts.cu": "*CudaPatch*:*CudaTranspose*", "eight_bit.cu": "*CudaEightBit*",
           "product_f32.cu": "*CudaLinearF32*:*CudaConvF32*", "attention_f32.cu": "*CudaAttentionF32*"}


def copy_kernels(config, work):
    """-> the folder of the copy's kernels"""
    cuda = Path(config["source"]) / "src/backend/cuda"
    copy = work / "src/backend/cuda"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(cuda / "kernels", copy / "kernels")
    return copy / "kernels"


def plant(bug, kernels):
    """-> what is wrong with the bug's own description, or None"""
    file = kernels / bug.file
    text = file.read_text()
    if text.count(bug.old) != 1:
        return f"its text is {text.count(bug.old)} times in {bug.file}"
    file.write_text(text.replace(bug.old, bug.new))
    return None


def build(unit, config, work):
    """-> the compiler's words if it fails, else None"""
    compile_command = [*config["compiler"], *config["flags"], f"-I{work}/src", f"-I{config['source']}/src",
                       "-x", "c++", "-c", f"{work}/src/backend/cuda/kernels/{unit}", "-o", f"{work}/planted.o"]
    link_command = [config["compiler"][-1], *config["objects"], f"{work}/planted.o", *config["libraries"],
                    "-o", f"{work}/planted_test"]
    for command in compile_command, link_command:
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            return "it does not build: " + ran.stderr[-600:]
    return None


def run_tests(unit, work):
    command = [f"{work}/planted_test", "--gtest_filter=" + FILTERS[unit]]
    return subprocess.run(command, capture_output=True, text=True)


def find(bug, config, work):
    """-> (whether the tests found it in the expected words, what they said)"""
    error = plant(bug, copy_kernels(config, work)) or build(bug.unit, config, work)
    if error:
        return False, error
    ran = run_tests(bug.unit, work)
    said = [line.strip() for line in ran.stdout.splitlines() if bug.finding in line]
    if ran.returncode == 0:
        return False, "all tests pass"
    if not said:
        return False, f"no test says '{bug.finding}': " + ran.stdout[-600:]
    return True, re.sub(r'.*description "', "", said[0])


def check_without_bug(unit, config, work):
    """-> why tests fail without a bug, or None"""
    copy_kernels(config, work)
    error = build(unit, config, work)
    if error:
        return error
    ran = run_tests(unit, work)
    return None if ran.returncode == 0 else ran.stdout[-600:]


def main():
    config, work, names = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3:]
    work.mkdir(parents=True, exist_ok=True)
    bugs = [bug for bug in BUGS if not names or any(name in bug.name for name in names)]
    for unit in sorted({bug.unit for bug in bugs}):
        error = check_without_bug(unit, config, work)
        if error:
            sys.exit(f"{unit} fails without a bug: {error}")
    missed = 0
    for bug in bugs:
        found, said = find(bug, config, work)
        missed += not found
        print(f"{'found ' if found else 'MISSED'} {bug.name}\n       {said[:240] if found else said}", flush=True)
    print(f"{len(bugs) - missed} of {len(bugs)} planted bugs found")
    sys.exit(1 if missed or not bugs else 0)


if __name__ == "__main__":
    main()
