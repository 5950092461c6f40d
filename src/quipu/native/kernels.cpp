// Compiled once for each instruction set, with QUIPU_KERNELS naming the table it makes.
#include "kernels.h"

#include "attention.h"
#include "multiply.h"
#include "pointwise.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace quipu {

extern const Kernels QUIPU_KERNELS;
const Kernels QUIPU_KERNELS = {
    TEXT(QUIPU_KERNELS), multiply, embed, rms_norm, quantise, layer_norm, gelu, swiglu, rotate, rotate_pairs, norm_head,
    append, attend, attend_piece, merge_pieces,
};

}  // namespace quipu
