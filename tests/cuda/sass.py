#!/usr/bin/env python3
"""sass.py ARCHITECTURE UNIT.cubin: the machine code of a unit is as it should be on that target (80, 90...).

Every kernel of gemm, conv, attention and linear_8bit has the tensor-core instruction that is expected and no other,
fills shared memory by asynchronous copies and reads it as matrices. No kernel of any unit uses local memory.
"""
import struct
import sys
from collections import Counter
from pathlib import Path

EM_CUDA = 190
INSTRUCTION_BYTES = 16
# The low 12 bits of an instruction, the same on sm_80 to sm_120; found with nvdisasm 13.1 on these kernels.
OPCODES = {
    0x23C: "HMMA",  # mma of bf16 or f16
    0x237: "IMMA",  # mma of s8
    0x27A: "QMMA",  # mma of e4m3
    0x83B: "LDSM",  # ldmatrix
    0xFAE: "LDGSTS",  # cp.async
    0x387: "STL",  # to local memory
    0x983: "LDL",  # from local memory
}
PRODUCTS = {"HMMA", "IMMA", "QMMA"}
TILES = {"LDSM", "LDGSTS"}
LOCAL_MEMORY = {"STL", "LDL"}
TABLE = "kernels"  # the unit without a kernel
TILED_UNITS = {"gemm", "conv", "attention", "linear_8bit"}


def kernels(cubin):
    """(name, its instructions) of each kernel: the sections .text.NAME of a 64-bit ELF file."""
    magic, machine = struct.unpack_from("<4s14xH", cubin)
    if magic != b"\x7fELF" or machine != EM_CUDA:
        raise ValueError("not a cubin")
    (table,) = struct.unpack_from("<Q", cubin, 40)
    count, names_index = struct.unpack_from("<HH", cubin, 60)
    sections = [struct.unpack_from("<I20xQQ", cubin, table + 64 * i) for i in range(count)]  # name, offset, bytes
    names = sections[names_index][1]
    for name_offset, offset, size in sections:
        start = names + name_offset
        name = cubin[start : cubin.index(b"\0", start)].decode()
        if name.startswith(".text."):
            yield name.removeprefix(".text."), cubin[offset : offset + size]


def count_instructions(code):
    opcodes = (struct.unpack_from("<H", code, at)[0] & 0xFFF for at in range(0, len(code), INSTRUCTION_BYTES))
    return Counter(OPCODES[opcode] for opcode in opcodes if opcode in OPCODES)


def e4m3_product(architecture):
    """Before sm_89 such kernels only trap. Data-centre cards from sm_90 on have no such mma: it becomes one of f16."""
    if architecture < 89:
        return set()
    return {"QMMA"} if architecture in (89, 120) else {"HMMA"}


def expected(unit, kernel, architecture):
    """The instructions that a kernel has, of PRODUCTS and TILES. Names are mangled."""
    if unit == "linear_8bit":
        product = e4m3_product(architecture) if "4e4m3" in kernel else {"IMMA"}
        return product | TILES if product else set()
    if unit in TILED_UNITS:
        return {"HMMA"} | TILES
    if unit == "eight_bit":  # a bare product, for tests
        return {"IMMA"} if "product_8bitIi" in kernel else e4m3_product(architecture)
    return set()


def findings(unit, kernel, found, architecture):
    wanted = expected(unit, kernel, architecture)
    for instruction in sorted(wanted - found.keys()):
        yield f"has no {instruction}"
    for instruction in sorted((found.keys() & PRODUCTS) - wanted):
        yield f"has {found[instruction]} {instruction}, which sass.py does not expect"
    for instruction in sorted(found.keys() & LOCAL_MEMORY):
        yield f"has {found[instruction]} {instruction}: local memory"


def main():
    architecture, path = int(sys.argv[1]), Path(sys.argv[2])
    unit = path.name.split(".")[0]
    total, count, bad = Counter(), 0, False
    for kernel, code in kernels(path.read_bytes()):
        found = count_instructions(code)
        for finding in findings(unit, kernel, found, architecture):
            print(f"sm_{architecture}: {kernel}: {finding}")
            bad = True
        total += found
        count += 1
    instructions = ", ".join(f"{total[name]} {name}" for name in OPCODES.values() if total[name])
    print(f"sm_{architecture} {unit}: {count} kernels; {instructions or 'none of the instructions looked for'}")
    return 1 if bad or (count == 0 and unit != TABLE) else 0


if __name__ == "__main__":
    sys.exit(main())
