// The AVX512 variant. The target pragma comes after every include, so that no
// shared inline function is compiled for an instruction set that the machine
// may lack.
#include "kernels.h"

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(                     \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
#define MMSCOPE_ISA avx512
#define MMSCOPE_LANES 16
#define MMSCOPE_STATES 16
#include "kernels_body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#else
namespace mmscope {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace mmscope
#endif
