// What an encoder of pictures has beyond a text model (Dosovitskiy et al. 2021): rows that come from outside, tables of
// positions, layer norms, GELU. Attention both ways is steps.h's.
#pragma once

#include <memory>

#include "plan.h"

namespace quipu {

// Rows of float32 that belong to places: [rows, cols].
struct Table {
    const float* values;
    int rows;
};

// out[t] = the row that the batch gives for t.
std::unique_ptr<Step> given_step(Buffer* out);
// out[t] = table[position of t], or added to what is there; tables repeat.
std::unique_ptr<Step> table_step(Table table, Buffer* out, bool add);
// out[t] = (in[t] - mean) / deviation * weight + bias (Ba et al. 2016).
std::unique_ptr<Step> layer_norm_step(Buffer* in, const float* weight, const float* bias, float epsilon, Buffer* out);
// out[t] = gelu(in[t] + bias), the exact form (Hendrycks and Gimpel 2016); bias may be null.
std::unique_ptr<Step> gelu_step(Buffer* in, const float* bias, Buffer* out);

}  // namespace quipu
