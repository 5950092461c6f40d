// Grouped-query attention over the paged cache: softmax over pieces of 256 keys at fixed places, merged in order
// (Milakov and Gimelshein 2018; Dao et al. 2022), so that a token's result does not depend on how its prompt was cut,
// on what else is in the batch, or on how many threads share the work.
#pragma once

#include <cmath>
#include <limits>

#include "kernels.h"
#include "lanes.h"

namespace quipu {
namespace {

// Queries that meet a piece of keys together; of those, how many meet a key while it is in registers.
#if defined(__AVX512F__)
constexpr int ROWS = MOST_ROWS, ROWS_AT_ONCE = MOST_ROWS;
#elif defined(__AVX2__)
constexpr int ROWS = 6, ROWS_AT_ONCE = 3;
#else
constexpr int ROWS = 4, ROWS_AT_ONCE = 4;
#endif
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

inline size_t head_at(const LayerCache& cache, int block, int head) {
    return (static_cast<size_t>(head) * cache.blocks + block) * BLOCK * cache.head_size;
}

inline size_t scales_at(const LayerCache& cache, int block, int head) {
    return (static_cast<size_t>(head) * cache.blocks + block) * BLOCK * cache.scale_groups();
}

template <CacheKind kind>
inline __attribute__((always_inline)) f32x16 load_cached(const uint8_t* from, size_t place) {
    if constexpr (kind == CacheKind::F32) return load(reinterpret_cast<const float*>(from) + place);
    if constexpr (kind == CacheKind::F16) return load_halves(reinterpret_cast<const uint16_t*>(from) + place);
    return load_signed_bytes(reinterpret_cast<const int8_t*>(from) + place);
}

// totals[r] = keys[d ...] . queries[r][d ...] of the 16 keys of a block, for elements [d, end) of the head.
template <CacheKind kind, int rows>
inline __attribute__((always_inline)) void score_elements(const uint8_t* keys, size_t at, int d, int end,
                                                          const float* const* queries, f32x16* totals) {
    f32x16 sums[2][rows];  // of even and odd elements, so that few queries do not wait for every sum
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) sums[0][r] = sums[1][r] = f32x16{};
    for (; d + 1 < end; d += 2) {
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; odd += LOADED) {
            f32x16 elements[LOADED];
#pragma GCC unroll 2
            for (int e = 0; e < LOADED; ++e)
                elements[e] = load_cached<kind>(keys, at + static_cast<size_t>(d + odd + e) * BLOCK);
#pragma GCC unroll 12
            for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
                for (int e = 0; e < LOADED; ++e)
                    sums[odd + e][r] = fma(elements[e], splat(queries[r][d + odd + e]), sums[odd + e][r]);
        }
    }
    if (d < end) {
        const f32x16 last = load_cached<kind>(keys, at + static_cast<size_t>(d) * BLOCK);
        for (int r = 0; r < rows; ++r) sums[0][r] = fma(last, splat(queries[r][d]), sums[0][r]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) totals[r] = sums[0][r] + sums[1][r];
}

// Scores of `rows` queries and the 16 keys of one block.
template <CacheKind kind, int rows>
inline __attribute__((always_inline)) void score_block(const LayerCache& cache, int block, int head,
                                                       const float* const* queries, float* scores, size_t stride) {
    if constexpr (rows > ROWS_AT_ONCE) {  // the second half finds the keys in the nearest cache
        constexpr int half = (rows + 1) / 2;
        score_block<kind, half>(cache, block, head, queries, scores, stride);
        score_block<kind, rows - half>(cache, block, head, queries + half, scores + half * stride, stride);
        return;
    }
    const size_t at = head_at(cache, block, head);
    f32x16 totals[rows];
    if constexpr (kind == CacheKind::INT8) {
        for (int r = 0; r < rows; ++r) totals[r] = f32x16{};
        const float* scales = cache.key_scales + scales_at(cache, block, head);
        for (int g = 0, d = 0; g < cache.scale_groups(); ++g, d += cache.scale_group()) {
            f32x16 part[rows];
            score_elements<kind, rows>(cache.keys, at, d, d + cache.scale_group(), queries, part);
            const f32x16 scale = load(scales + g * BLOCK);
            for (int r = 0; r < rows; ++r) totals[r] = fma(part[r], scale, totals[r]);
        }
    } else {
        score_elements<kind, rows>(cache.keys, at, 0, cache.head_size, queries, totals);
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) store(scores + r * stride, totals[r]);
}

// out[r][d .. d + 16 * columns] = sum over keys [begin, count) of scores[r][key] * value[key].
template <CacheKind kind, int rows, int columns>
inline __attribute__((always_inline)) void weigh(const LayerCache& cache, const int32_t* blocks, int head, int begin,
                                                 int count, const float* scores, size_t stride, int d, float* out,
                                                 size_t out_stride) {
    f32x16 totals[rows][columns];
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) totals[r][c] = f32x16{};
    const int size = cache.head_size;
    for (int key = begin; key < count;) {
        const int block = blocks[key / BLOCK], end = key / BLOCK * BLOCK + BLOCK < count ? key / BLOCK * BLOCK + BLOCK : count;
        size_t row = head_at(cache, block, head) + static_cast<size_t>(key % BLOCK) * size + d;
        const float* scales = nullptr;
        if constexpr (kind == CacheKind::INT8)
            scales = cache.value_scales + scales_at(cache, block, head) + (key % BLOCK) * cache.scale_groups();
        for (; key < end; ++key, row += size) {
#pragma GCC unroll 4
            for (int c = 0; c < columns; ++c) {
                f32x16 values = load_cached<kind>(cache.values, row + c * LANES);
                if constexpr (kind == CacheKind::INT8) values *= splat(scales[(d + c * LANES) / cache.scale_group()]);
#pragma GCC unroll 12
                for (int r = 0; r < rows; ++r)
                    totals[r][c] = fma(values, splat(scores[r * stride + key]), totals[r][c]);
            }
            if constexpr (kind == CacheKind::INT8) scales += cache.scale_groups();
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) store(out + r * out_stride + d + c * LANES, totals[r][c]);
}

// The last elements of a head whose size is no multiple of 16, one at a time.
template <CacheKind kind>
float weigh_one(const LayerCache& cache, const int32_t* blocks, int head, int begin, int count, const float* scores,
                int d) {
    float total = 0;
    for (int key = begin; key < count; ++key) {
        const int block = blocks[key / BLOCK], slot = key % BLOCK;
        const size_t at = head_at(cache, block, head) + static_cast<size_t>(slot) * cache.head_size + d;
        float value;
        if constexpr (kind == CacheKind::F32) {
            std::memcpy(&value, cache.values + 4 * at, 4);
        } else if constexpr (kind == CacheKind::F16) {
            uint16_t half;
            std::memcpy(&half, cache.values + 2 * at, 2);
            value = half_bits_to_float(half);
        } else {
            const float* scales = cache.value_scales + scales_at(cache, block, head);
            value = static_cast<float>(static_cast<int8_t>(cache.values[at])) *
                    scales[slot * cache.scale_groups() + d / cache.scale_group()];
        }
        total += value * scores[key];
    }
    return total;
}

inline bool all_finite(const float* values, int count) {
    for (int d = 0; d < count; ++d)
        if (!std::isfinite(values[d])) return false;
    return true;
}

// Values of a block are on their way while its keys are scored; a few queries would wait for them (docs/log.md).
template <CacheKind kind>
inline __attribute__((always_inline)) void ask_for_values(const LayerCache& cache, int block, int head) {
    constexpr size_t bytes = kind == CacheKind::F32 ? 4 : kind == CacheKind::F16 ? 2 : 1;
    const uint8_t* values = cache.values + head_at(cache, block, head) * bytes;
    for (size_t at = 0; at < bytes * BLOCK * cache.head_size; at += 64) __builtin_prefetch(values + at, 0, 2);
}

// A piece of keys for `rows` queries. Query r sees keys [begin, ends[r]) of the piece, counted from its first block.
// partial[r]: maximum, sum, values; a query that sees nothing has the maximum NOTHING.
template <CacheKind kind, int rows>
__attribute__((noinline)) void attend_rows(const LayerCache& cache, const int32_t* blocks, int head,
                                           const float* const* queries, int begin, const int* ends, float* scores,
                                           float* partial) {
    const size_t stride = ATTENTION_PIECE, width = 2 + cache.head_size;
    int count = 0;
    for (int r = 0; r < rows; ++r) count = ends[r] > count ? ends[r] : count;
    const int first = begin / BLOCK, last = (count + BLOCK - 1) / BLOCK;
    for (int block = first; block < last; ++block) {
        if constexpr (rows < ROWS) ask_for_values<kind>(cache, blocks[block], head);
        score_block<kind, rows>(cache, blocks[block], head, queries, scores + block * BLOCK, stride);
    }
    const i32x16 lane = lane_numbers();
    for (int r = 0; r < rows; ++r) {
        float* row = scores + r * stride;
        f32x16 most = splat(NOTHING);
        for (int block = first; block < last; ++block) {
            const i32x16 key = lane + block * BLOCK;
            const i32x16 seen = (key >= begin) & (key < ends[r]);
            const f32x16 score = select(seen, load(row + block * BLOCK), splat(NOTHING));
            store(row + block * BLOCK, score);
            most = larger(score, most);
        }
        const float maximum = largest(most);
        f32x16 total{};
        for (int block = first; block < last; ++block) {
            const f32x16 score = load(row + block * BLOCK);
            // What is not seen weighs 0 exactly: a NaN that another sequence left there must not pass.
            const f32x16 weight = select(score == splat(NOTHING), f32x16{}, exp(score - splat(maximum)));
            store(row + block * BLOCK, weight);
            total += weight;
        }
        const float weight = sum(total);
        partial[r * width] = std::isnan(weight) ? weight : maximum;  // no number must pass for nothing seen
        partial[r * width + 1] = weight;
    }
    // Only keys that someone sees: 0 times NaN is NaN.
    float* out = partial + 2;
    int d = 0;
    // As many sums as fit the registers.
#if defined(__AVX512F__)
    constexpr int columns = rows <= 4 ? 4 : 2;
#elif defined(__AVX2__)
    constexpr int columns = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
#else
    constexpr int columns = 2;
#endif
    for (; d + columns * LANES <= cache.head_size; d += columns * LANES)
        weigh<kind, rows, columns>(cache, blocks, head, begin, count, scores, stride, d, out, width);
    for (; d + LANES <= cache.head_size; d += LANES)
        weigh<kind, rows, 1>(cache, blocks, head, begin, count, scores, stride, d, out, width);
    for (; d < cache.head_size; ++d)
        for (int r = 0; r < rows; ++r)
            out[r * width + d] = weigh_one<kind>(cache, blocks, head, begin, count, scores + r * stride, d);
    // A value that is no number passes to rows that do not see it: those are taken again, each up to its own end.
    if constexpr (rows > 1)
        for (int r = 0; r < rows; ++r)
            if (ends[r] < count && !all_finite(out + r * width, cache.head_size))
                attend_rows<kind, 1>(cache, blocks, head, queries + r, begin, ends + r, scores, partial + r * width);
}

template <CacheKind kind, int most>
void attend_any(int rows, const LayerCache& cache, const int32_t* blocks, int head, const float* const* queries,
                int begin, const int* ends, float* scores, float* partial) {
    if (rows == most) return attend_rows<kind, most>(cache, blocks, head, queries, begin, ends, scores, partial);
    if constexpr (most > 1) attend_any<kind, most - 1>(rows, cache, blocks, head, queries, begin, ends, scores, partial);
}

void attend_some(int rows, const LayerCache& cache, const int32_t* blocks, int head, const float* const* queries,
                 int begin, const int* ends, float* scores, float* partial) {
    switch (cache.kind) {
        case CacheKind::F32:
            return attend_any<CacheKind::F32, ROWS>(rows, cache, blocks, head, queries, begin, ends, scores, partial);
        case CacheKind::F16:
            return attend_any<CacheKind::F16, ROWS>(rows, cache, blocks, head, queries, begin, ends, scores, partial);
        case CacheKind::INT8:
            return attend_any<CacheKind::INT8, ROWS>(rows, cache, blocks, head, queries, begin, ends, scores, partial);
    }
}

inline void start_merge(float* merged, int size) {
    for (int place = 1; place < 2 + size; ++place) merged[place] = 0;
    merged[0] = NOTHING;
}

// Running softmax: `merged` takes `partial` in; both are maximum, sum, values.
inline void merge(float* merged, const float* partial, int size) {
    const float maximum = partial[0];
    if (maximum == NOTHING) return;
    if (merged[0] == NOTHING) {
        std::memcpy(merged, partial, (2 + size) * sizeof(float));
        return;
    }
    const float most = merged[0] > maximum ? merged[0] : maximum;
    const float old_share = exp(merged[0] - most), new_share = exp(maximum - most);
    merged[0] = most;
    for (int place = 1; place < 2 + size; ++place)
        merged[place] = merged[place] * old_share + partial[place] * new_share;
}

inline void finish(const float* merged, int size, float* out) {
    for (int d = 0; d < size; ++d) out[d] = merged[2 + d] / merged[1];
}

// First position whose key a token at `position` sees.
inline int first_seen(const AttentionWork& work, int position) {
    return work.chunk > 0 ? position / work.chunk * work.chunk : 0;
}

void attend(const AttentionWork& work, float* out, size_t out_stride) {
    const LayerCache& cache = *work.cache;
    const int size = cache.head_size, rows_in_all = work.tokens * work.group;
    const size_t width = 2 + size;
    float *scores = work.scratch, *partial = scores + ROWS * ATTENTION_PIECE, *merged = partial + ROWS * width;
    for (int start = 0; start < rows_in_all; start += ROWS) {
        const int rows = rows_in_all - start < ROWS ? rows_in_all - start : ROWS;
        const float* queries[ROWS];
        int positions[ROWS];
        for (int r = 0; r < rows; ++r) {
            const int token = (start + r) / work.group;
            queries[r] = work.queries + token * work.query_stride + (start + r) % work.group * size;
            positions[r] = work.end > 0 ? work.end - 1 : work.first_position + token;
            start_merge(merged + r * width, size);
        }
        const int last = positions[rows - 1];
        // Rows that straddle a chunk's edge begin at different keys: they are taken one chunk after another.
        for (int piece = first_seen(work, positions[0]) / ATTENTION_PIECE; piece * ATTENTION_PIECE <= last; ++piece) {
            const int from = piece * ATTENTION_PIECE, to = from + ATTENTION_PIECE;
            for (int r = 0; r < rows;) {
                const int begin = first_seen(work, positions[r]);
                int alike = 0, ends[ROWS];
                for (; r + alike < rows && first_seen(work, positions[r + alike]) == begin; ++alike) {
                    const int end = positions[r + alike] + 1 < to ? positions[r + alike] + 1 : to;
                    ends[alike] = end > from ? end - from : 0;
                }
                if (begin < to && ends[alike - 1] > 0) {
                    attend_some(alike, cache, work.blocks + from / BLOCK, work.head, queries + r,
                                begin > from ? begin - from : 0, ends, scores, partial);
                    for (int each = 0; each < alike; ++each)
                        merge(merged + (r + each) * width, partial + each * width, size);
                }
                r += alike;
            }
        }
        for (int r = 0; r < rows; ++r) {
            const int token = (start + r) / work.group, query = (start + r) % work.group;
            finish(merged + r * width, size, out + token * out_stride + query * size);
        }
    }
}

void attend_piece(const AttentionWork& work, int piece, float* partial) {
    const int position = work.end > 0 ? work.end - 1 : work.first_position, from = piece * ATTENTION_PIECE;
    const int begin = first_seen(work, position) > from ? first_seen(work, position) - from : 0;
    const int end = position + 1 - from < ATTENTION_PIECE ? position + 1 - from : ATTENTION_PIECE;
    const size_t width = 2 + work.cache->head_size;
    for (int start = 0; start < work.group; start += ROWS) {
        const int rows = work.group - start < ROWS ? work.group - start : ROWS;
        const float* queries[ROWS];
        int ends[ROWS];
        for (int r = 0; r < rows; ++r) {
            queries[r] = work.queries + (start + r) * work.cache->head_size;
            ends[r] = end;
        }
        attend_some(rows, *work.cache, work.blocks + from / BLOCK, work.head, queries, begin, ends, work.scratch,
                    partial + start * width);
    }
}

void merge_pieces(const float* partials, int pieces, int group, int size, float* merged, float* out) {
    const size_t width = 2 + size;
    for (int query = 0; query < group; ++query) {
        start_merge(merged, size);
        for (int piece = 0; piece < pieces; ++piece)
            merge(merged, partials + (static_cast<size_t>(piece) * group + query) * width, size);
        finish(merged, size, out + query * size);
    }
}

// ---- writing to the cache

inline void quantise_head(const float* values, int count, int8_t* quanta, size_t step, float* scale) {
    float most = 0;
    bool finite = true;
    for (int d = 0; d < count; ++d) {
        const float size = std::fabs(values[d]);
        finite = finite && std::isfinite(size);
        most = size > most ? size : most;
    }
    const float inverse = finite && most > 1e-30f ? 127.0f / most : 0.0f;
    for (int d = 0; d < count; ++d)
        quanta[d * step] = finite ? static_cast<int8_t>(std::nearbyint(values[d] * inverse)) : 0;
    *scale = finite ? most / 127.0f : std::numeric_limits<float>::quiet_NaN();
}

void append(const LayerCache& cache, int head, int block, int slot, const float* key, const float* value) {
    const int size = cache.head_size;
    const size_t at = head_at(cache, block, head), row = at + static_cast<size_t>(slot) * size;
    if (cache.kind == CacheKind::INT8) {
        const int groups = cache.scale_groups(), group = cache.scale_group();
        int8_t* keys = reinterpret_cast<int8_t*>(cache.keys) + at + slot;
        int8_t* values = reinterpret_cast<int8_t*>(cache.values) + row;
        const size_t scales = scales_at(cache, block, head);
        for (int g = 0; g < groups; ++g) {
            const int d = g * group;
            quantise_head(key + d, group, keys + static_cast<size_t>(d) * BLOCK, BLOCK,
                          cache.key_scales + scales + g * BLOCK + slot);
            quantise_head(value + d, group, values + d, 1, cache.value_scales + scales + slot * groups + g);
        }
    } else if (cache.kind == CacheKind::F16) {
        uint16_t* keys = reinterpret_cast<uint16_t*>(cache.keys) + at + slot;
        uint16_t* values = reinterpret_cast<uint16_t*>(cache.values) + row;
        int d = 0;
        for (; d + LANES <= size; d += LANES) {
            uint16_t halves[LANES];
            store_halves(halves, load(key + d));
            for (int lane = 0; lane < LANES; ++lane) keys[static_cast<size_t>(d + lane) * BLOCK] = halves[lane];
            store_halves(values + d, load(value + d));
        }
        for (; d < size; ++d) {
            keys[static_cast<size_t>(d) * BLOCK] = float_to_half_bits(key[d]);
            values[d] = float_to_half_bits(value[d]);
        }
    } else {
        float* keys = reinterpret_cast<float*>(cache.keys) + at + slot;
        for (int d = 0; d < size; ++d) keys[static_cast<size_t>(d) * BLOCK] = key[d];
        std::memcpy(reinterpret_cast<float*>(cache.values) + row, value, size * sizeof(float));
    }
}

}  // namespace
}  // namespace quipu
