// What each instruction set provides. Plans call through this table; kernels.cpp is compiled once for each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats.h"

namespace quipu {

// Vectors of one step, one row a token. Producers fill `values` and, where weights that read them are quantised, the
// other form: int8 with a scale for each 16, x ~ scale * q, the last group of 32 filled up with zeros. Half of the
// weights' groups, for half the error (docs/log.md).
struct Activations {
    int cols = 0;
    float* values = nullptr;       // [tokens, cols]
    int8_t* quanta = nullptr;      // [tokens, groups * 32], or null: no reader wants it
    float* scales = nullptr;       // [tokens, groups * 2]
    int32_t* sums = nullptr;       // [tokens, groups * 2]: of q
    float* scaled_sums = nullptr;  // [tokens, groups]: of scale * q

    int groups() const { return (cols + GROUP - 1) / GROUP; }

    // The rows from `t` on.
    Activations from(int t) const {
        const size_t at = static_cast<size_t>(t) * groups();
        if (quanta == nullptr) return {cols, values + static_cast<size_t>(t) * cols, nullptr, nullptr, nullptr, nullptr};
        return {cols, values + static_cast<size_t>(t) * cols, quanta + at * GROUP, scales + at * 2, sums + at * 2,
                scaled_sums + at};
    }
};

enum class CacheKind : int { F32, F16, INT8 };

// The paged KV cache of one layer. Keys lie [head][block][d][slot], so that sixteen keys meet one element of a query
// at once; values [head][block][slot][d]. A head's blocks lie side by side: where a sequence has blocks in order, which
// is usual, a head is read in one direction, as the processor fetches it ahead. INT8 has a scale for each group of 32
// of a head (all of it where 32 does not divide it): key scales [head][block][group][slot], value scales
// [head][block][slot][group].
struct LayerCache {
    CacheKind kind = CacheKind::F16;
    int kv_heads = 0, head_size = 0, blocks = 0;
    bool chunked = false;  // its blocks are those of Batch::chunk_blocks
    uint8_t* keys = nullptr;
    uint8_t* values = nullptr;
    float* key_scales = nullptr;
    float* value_scales = nullptr;

    int scale_group() const { return head_size % GROUP == 0 ? GROUP : head_size; }
    int scale_groups() const { return head_size / scale_group(); }
};

constexpr int BLOCK = 16;            // tokens of a cache block; the engine's BLOCK_SIZE
constexpr int ATTENTION_PIECE = 256;  // keys whose softmax is taken at once; pieces are merged in order

// A run of query tokens of one sequence, for one key head.
struct AttentionWork {
    const LayerCache* cache;
    const int32_t* blocks;  // of the sequence
    int head;               // key head
    int group;              // queries that share it
    int first_position;     // of the first token
    int tokens;
    int chunk;  // tokens see only keys of their own chunk of this many positions; 0: everything before them
    int end;    // positions before which all tokens see everything; 0: each sees what comes before itself
    const float* queries;  // [tokens, query_stride], rotated and scaled; this head's group begins here
    size_t query_stride;
    float* scratch;  // attention_scratch() floats
};

struct Kernels {
    const char* name;

    // out[t, column + r] (+)= weight[r] . x[t] for rows of tiles [first, last).
    void (*multiply)(const Weight& weight, const Activations& x, int tokens, int first, int last, float* out,
                     size_t out_stride, int column, bool add);
    // One row of an embedding table, decoded.
    void (*embed)(const Weight& table, int row, float* out);
    // x / rms(x) * weight for one token (Zhang and Sennrich 2019).
    void (*rms_norm)(const float* in, const float* weight, float epsilon, const Activations& out, int t);
    // One row of values into the quantised form.
    void (*quantise)(const float* in, const Activations& out, int t);
    // (x - mean) / deviation * weight + bias for one token (Ba et al. 2016).
    void (*layer_norm)(const float* in, const float* weight, const float* bias, float epsilon, const Activations& out,
                       int t);
    // gelu(in + bias) for one token, bias or null.
    void (*gelu)(const float* in, const float* bias, const Activations& out, int t);
    // silu(gate) * up for one token, [gate | up] in one row.
    void (*swiglu)(const float* gate_up, const Activations& out, int t);
    // Rotate one head in place, halves (t, t + size / 2), and multiply by `scale`.
    void (*rotate)(float* head, const float* cosines, const float* sines, int size, float scale);
    // The same of pairs (2 t, 2 t + 1).
    void (*rotate_pairs)(float* head, const float* cosines, const float* sines, int size, float scale);
    // head / rms(head) * scale, in place.
    void (*norm_head)(float* head, int size, float epsilon, float scale);
    // Write a token's key and value of one head to the cache.
    void (*append)(const LayerCache& cache, int head, int block, int slot, const float* key, const float* value);
    // Attention of `work`'s tokens over all their keys: out[token, group, head_size].
    void (*attend)(const AttentionWork& work, float* out, size_t out_stride);
    // The same for one token and one piece of keys, before the merge: [group, 2 + head_size] of maximum, sum, value.
    void (*attend_piece)(const AttentionWork& work, int piece, float* partial);
    // Merges what attend_piece made, [piece, group, 2 + head_size], in order, as attend does. `merged`: 2 + head_size
    // floats of scratch.
    void (*merge_pieces)(const float* partials, int pieces, int group, int head_size, float* merged, float* out);
};

// Queries that meet a piece of keys together, at most: twelve are whole tokens where two, three or four share a key.
constexpr int MOST_ROWS = 12;

// Floats of scratch that attend, attend_piece and merge_pieces need.
inline size_t attention_scratch(int head_size) { return MOST_ROWS * (ATTENTION_PIECE + 2 * (2 + head_size)); }

extern const Kernels avx512_kernels, avx2_kernels, portable_kernels;

}  // namespace quipu
