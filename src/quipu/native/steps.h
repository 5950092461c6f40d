// The steps that plans are made of.
#pragma once

#include <memory>
#include <vector>

#include "plan.h"

namespace quipu {

// Which vectors a step works on: those of all tokens; of the gathered ones; of those whose logits are wanted, which
// come first among the gathered.
enum class Extent { ALL, GATHERED, SCORED };

// out[t] = table[token t].
std::unique_ptr<Step> embed_step(const Weight* table, Buffer* out);
// out[i] = in[rows[i]].
std::unique_ptr<Step> gather_step(Buffer* in, Buffer* out);
// out[t] = in[t] / rms(in[t]) * weight.
std::unique_ptr<Step> rms_norm_step(Buffer* in, const float* weight, float epsilon, Buffer* out, Extent extent);
// out[t] = [weights[0] x[t] | weights[1] x[t] | ...], or added to what is there.
std::unique_ptr<Step> linear_step(std::vector<const Weight*> weights, Buffer* in, Buffer* out, bool add, Extent extent);
// The quantised form of what is in `buffer`, where a reader wants it: after steps whose rows several threads write.
std::unique_ptr<Step> quantise_step(Buffer* buffer, Extent extent);
// out[t] = cosines and sines of position t times each of `frequencies`, radians per position. With a chunk, positions
// count from the start of theirs.
std::unique_ptr<Step> angles_step(std::vector<float> frequencies, int chunk, Buffer* out);

// What positions do to queries and keys.
struct Placement {
    Buffer* angles = nullptr;  // by which both are rotated; null: not
    bool pairs = false;        // elements (2 t, 2 t + 1) are rotated together, else (t, t + head size / 2)
    float norm_epsilon = -1;   // rotated heads are divided by their root mean square; negative: not
    double temperature_floor = 1, temperature_scale = 0;  // queries times 1 + scale ln(1 + floor((position + 1) / floor))
    float query_scale = 0;     // of queries; 0: 1 / sqrt(head size)
};
// Places queries and keys of [queries | keys | values] rows, scales queries by 1 / sqrt(head size), and writes keys and
// values to the cache.
std::unique_ptr<Step> append_step(Buffer* qkv, LayerCache* cache, int heads, Placement placement);
// Grouped-query attention, in two parts: pieces of long contexts side by side, then their merge.
// `whole`: every token of a sequence sees all of them.
void add_attention(Plan& plan, Buffer* qkv, LayerCache* cache, int heads, int chunk, bool whole, Buffer* out);
// out[t] = silu(gate) * up of [gate | up | ...].
std::unique_ptr<Step> swiglu_step(Buffer* gate_up, Buffer* out);

}  // namespace quipu
