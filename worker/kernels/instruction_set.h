// Which vector instructions the kernels use: the most that this processor has.
#pragma once

namespace svfleet {

enum class Kernels { kPlain, kAvx2, kAvx512 };

Kernels kernels();

// Whether this processor can run them.
bool has_kernels(Kernels which);

// Whether there are instructions for pairs of bfloat16 (AVX512_BF16), and for tiles of them (AMX).
bool has_pair_kernels();
bool has_matrix_instructions();

// For tests alone, which compare the bits of all of them: not while kernels run.
void set_kernels(Kernels which);

}  // namespace svfleet
