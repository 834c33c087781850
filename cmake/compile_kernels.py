#!/usr/bin/env python3
"""Compiles the Triton kernels of src/nn/gpu/kernels ahead of time, without a GPU, into C++ sources that contain the machine
code.

    compile_kernels.py OUTPUT_FOLDER

Writes compiled_kernels.h, with a struct of arguments for each kernel and the table of the compiled variants, its .cpp,
and the files that this one includes. Fails if a variant spills more than a few registers or needs more shared memory than
its GPUs have.
Needs the PyPI package triton; the programs need neither it nor Python.
"""
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

os.environ['TRITON_DISABLE_LINE_INFO'] = '1'  # or the code would name the folder of the sources

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SOURCES = pathlib.Path(__file__).resolve().parent.parent / 'src/nn/gpu/kernels'
sys.path.insert(0, str(SOURCES))
import attention  # noqa: E402
import residual_norm  # noqa: E402

# Shared memory of a block in bytes. GPUs of 8.6 and 8.9 run the code of 8.0, and have less than it.
ARCHITECTURES = {80: 99 << 10, 90: 227 << 10, 100: 227 << 10}
MOST_SPILLED = 64  # bytes of a thread
# By the width of a head: rows, warps and stages, and exceptions by width and architecture.
ATTENTION = {
    attention.forward: {32: (128, 4, 3), 64: (128, 8, 3), 128: (128, 8, 2)},
    attention.backward_queries: {32: (128, 8, 2), 64: (128, 8, 2), 128: (64, 8, 2)},
    attention.backward_keys: {32: (128, 8, 2), 64: (128, 8, 2), 128: (64, 8, 2), (64, 80): (64, 8, 2),
                              (128, 80): (64, 8, 1), (128, 100): (64, 8, 1)},
}
NORM = (residual_norm.norm_forward, residual_norm.norm_backward)
NORM_BLOCKS = {512: 4, 1024: 4, 2048: 8, 4096: 16}  # warps
# Triton's types of the arguments.
TYPES = {'*fp32': ('lse', 'delta', 'x', 'total', 'd_total', 'd_x', 'mean', 'rstd', 'gain', 'bias', 'd_gain', 'd_bias'),
         '*bf16': ('qkv', 'out', 'd_out', 'd_qkv', 'branch', 'normed', 'd_normed', 'd_branch'),
         '*i32': ('ranges', 'full', 'partial', 'masks'),
         'fp32': ('scale', 'epsilon'),
         'i32': ('length', 'text', 'period', 'stride', 'heads', 'rows', 'width')}
PTX_TYPES = {'*': 'u64', 'f': 'f32', 'i': 'u32'}  # by the first letter of Triton's
CPP_TYPES = {'*': 'void*', 'f': 'float', 'i': 'int32_t'}
SCRATCH = ('global_scratch', 'profile_scratch')  # Triton appends two pointers, which these kernels do not use
MASK = ('ranges', 'scale')  # the first and the last of the arguments that all attention kernels have


@dataclasses.dataclass
class Variant:
    kernel: object
    constants: dict  # by name
    warps: int
    stages: int
    architecture: int

    @property
    def name(self):
        """forward_64, norm_backward_1024_branch: without the rows, which the table contains."""
        values = [str(value) for name, value in self.constants.items() if name in ('WIDTH', 'BLOCK')]
        return '_'.join([self.kernel.__name__, *values, *(['branch'] if self.constants.get('BRANCH') else [])])


def variants():
    for kernel, by_width in ATTENTION.items():
        for width in (key for key in by_width if isinstance(key, int)):
            for architecture in ARCHITECTURES:
                rows, warps, stages = by_width.get((width, architecture), by_width[width])
                yield Variant(kernel, {'ROWS': rows, 'WIDTH': width}, warps, stages, architecture)
    for kernel in NORM:
        for block, warps in NORM_BLOCKS.items():
            for branch in (False, True):
                for architecture in ARCHITECTURES:
                    yield Variant(kernel, {'BRANCH': branch, 'BLOCK': block}, warps, 1, architecture)


def arguments(kernel):
    """[(name, type)] of what the kernel takes when it runs, without Triton's scratch memory."""
    return [(name, next(kind for kind, names in TYPES.items() if name in names))
            for name in kernel.arg_names if not name.isupper()]


def compile_variant(variant):
    types = dict(arguments(variant.kernel))
    signature = {name: types.get(name, 'constexpr') for name in variant.kernel.arg_names}
    aligned = {(i,): [['tt.divisibility', 16]] for i, (name, kind) in enumerate(signature.items())
               if kind.startswith('*') or name == 'width'}
    source = ASTSource(fn=variant.kernel, signature=signature, constexprs=variant.constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget('cuda', variant.architecture, 32),
                              options={'num_warps': variant.warps, 'num_stages': variant.stages})
    metadata = compiled.metadata
    found = re.findall(rf'\.param \.([a-z]\w+)\b[^\n]* {metadata.name}_param_\d+', compiled.asm['ptx'])
    expected = [PTX_TYPES[kind[0]] for kind in types.values()] + ['u64'] * len(SCRATCH)
    if found != expected:
        raise SystemExit(f'{variant.name}: the compiled kernel takes {found}, expected {expected}')
    if metadata.global_scratch_size or metadata.profile_scratch_size or metadata.num_ctas != 1:
        raise SystemExit(f'{variant.name} needs scratch memory or clusters: {metadata}')
    return compiled


def check_resources(path, label, shared, limit):
    """The registers of a cubin; an error if they spill or shared memory exceeds the limit."""
    cuobjdump = pathlib.Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    usage = subprocess.run([cuobjdump, '--dump-resource-usage', path], check=True, capture_output=True, text=True).stdout
    usage = {key: int(value) for key, value in re.findall(r'\b(REG|STACK|LOCAL):(\d+)', usage)}
    if usage['STACK'] > MOST_SPILLED or usage['LOCAL']:
        raise SystemExit(f'{label} spills registers: {usage}')
    if shared > limit:
        raise SystemExit(f'{label} needs {shared} bytes of shared memory, expected at most {limit}')
    return usage['REG']


def struct_of(title, members, addresses, comment):
    lines = [f'/// {comment}', f'struct {title} {{', *(f'  {member};' for member in members)]
    if addresses:
        lines += [f'  std::array<void*, {len(addresses)}> addresses() {{',
                  '    return {' + ', '.join('&' + address for address in addresses) + '};', '  }']
    return '\n'.join([*lines, '};'])


def structs():
    """MaskArguments, which all attention kernels take, and the arguments of each kernel."""
    result, mask = [], None
    for kernel in (*ATTENTION, *NORM):
        members = [f'{CPP_TYPES[kind[0]]} {name}' for name, kind in arguments(kernel)]
        names = [name for name, _ in arguments(kernel)]
        if kernel in ATTENTION:
            first, end = names.index(MASK[0]), names.index(MASK[1]) + 1
            mask = mask or members[first:end]
            if mask != members[first:end]:
                raise SystemExit(f'{kernel.__name__} does not take {mask}')
            members[first:end] = ['MaskArguments mask']
            names[first:end] = [f'mask.{name}' for name in names[first:end]]
        title = ''.join(word.capitalize() for word in kernel.__name__.split('_')) + 'Arguments'
        result.append(struct_of(title, members + [f'void* {name} = nullptr' for name in SCRATCH], names + list(SCRATCH),
                                f'In the order of {kernel.__name__}() in src/nn/gpu/kernels.'))
    return '\n\n'.join([struct_of('MaskArguments', mask, [], 'What all attention kernels take.'), *result])


HEADER = """// Written by cmake/compile_kernels.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dalle {{

/// A kernel for one kind of GPU.
struct CompiledKernel {{
  std::string_view name;      ///< with its constants, such as forward_64
  const char* function;       ///< its name in the code
  int architecture;           ///< compute capability times 10
  bool ptx;                   ///< for all GPUs of this capability or a higher one; else machine code
  int64_t rows;               ///< of a block of the block mask; 0 if it takes none
  unsigned threads;
  unsigned shared_bytes;
  std::span<const std::byte> code;
}};

std::span<const CompiledKernel> compiled_kernels();

{structs}

}}  // namespace dalle
"""

SOURCE = """// Written by cmake/compile_kernels.py.
#include "compiled_kernels.h"

{embedded}

namespace dalle {{
namespace {{

const CompiledKernel kKernels[] = {{
{entries}
}};

}}  // namespace

std::span<const CompiledKernel> compiled_kernels() {{ return kKernels; }}

}}  // namespace dalle
"""

EMBEDDED = """asm(".section .rodata\\n.balign 64\\n.global {symbol}\\n.hidden {symbol}\\n{symbol}:\\n"
    ".incbin \\"{path}\\"\\n.previous\\n");
extern "C" __attribute__((visibility("hidden"))) const std::byte {symbol}[{size}];"""


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    output = pathlib.Path(sys.argv[1]).resolve()
    output.mkdir(parents=True, exist_ok=True)
    embedded, entries = [], []

    def embed(variant, metadata, path, ptx):
        symbol = 'dalle_kernel_' + path.name.replace('.', '_')
        embedded.append(EMBEDDED.format(symbol=symbol, path=path, size=path.stat().st_size))
        entries.append(f'    {{"{variant.name}", "{metadata.name}", {variant.architecture}, {str(ptx).lower()}, '
                       f'{variant.constants.get("ROWS", 0)}, {32 * variant.warps}, {metadata.shared}, {symbol}}},')

    for variant in variants():
        compiled = compile_variant(variant)
        label = f'{variant.name}_{variant.architecture}'
        code = output / f'{label}.cubin'
        code.write_bytes(compiled.asm['cubin'])
        registers = check_resources(code, label, compiled.metadata.shared, ARCHITECTURES[variant.architecture])
        print(f'{label}: {registers} registers, {compiled.metadata.shared} bytes of shared memory', flush=True)
        embed(variant, compiled.metadata, code, False)
        if variant.architecture == min(ARCHITECTURES):  # the driver compiles it for GPUs without code of their own
            text = output / f'{label}.ptx'
            text.write_bytes(compiled.asm['ptx'].encode() + b'\0')
            embed(variant, compiled.metadata, text, True)
    (output / 'compiled_kernels.h').write_text(HEADER.format(structs=structs()))
    (output / 'compiled_kernels.cpp').write_text(SOURCE.format(embedded='\n'.join(embedded), entries='\n'.join(entries)))


if __name__ == '__main__':
    main()
