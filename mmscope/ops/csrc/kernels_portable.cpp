// The variant that runs everywhere: vectors of four floats, as SSE2 and NEON
// have them.
#include "kernels.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define MMSCOPE_ISA portable
#define MMSCOPE_LANES 4
#define MMSCOPE_STATES 4
#include "kernels_body.h"
