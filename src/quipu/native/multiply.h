// Matrix products: tiles of 16 rows of packed weights times a few tokens at once.
//
// The sums of a token run over groups of columns in order, whether it comes alone or among others: its result is the
// same bits in every batch.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace quipu {
namespace {

// Tokens that meet weights while these are in registers.
template <Kind kind>
#if defined(__AVX512F__)
constexpr int AT_ONCE = 8;  // eight sums, four weight vectors and eight totals fit 32 registers
#elif defined(__AVX2__)
// Floats: as many as have their sums in 16 registers. Quantised weights have one sum for 32 columns, which may lie in
// memory: decoding the weights again would cost more.
constexpr int AT_ONCE = quantised(kind) ? 8 : 3;
#else
constexpr int AT_ONCE = 4;
#endif

// What the quanta of a group mean.
template <Kind kind>
struct Group {
    static constexpr bool wide = kind == Kind::Q8_0;
    static constexpr bool five_bits = kind == Kind::Q5_0 || kind == Kind::Q5_1;
    static constexpr bool has_minimum = kind == Kind::Q4_1 || kind == Kind::Q5_1;
    static constexpr int offset = kind == Kind::Q4_0 ? 8 : kind == Kind::Q5_0 ? 16 : 0;

    // Of sixteen of its 32 columns, the first or the second ones: four vectors.
    static inline __attribute__((always_inline)) void load(const uint8_t* group, const TileLayout& layout, int half,
                                                           u8x64* quanta) {
        const uint8_t* from = group + layout.quanta;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            if constexpr (wide) {
                quanta[j] = load_bytes(from + 64 * (4 * half + j));
            } else {
                const u8x64 both = load_bytes(from + 64 * j);
                quanta[j] = half == 0 ? low_nibbles(both) : high_nibbles(both);
            }
            if constexpr (five_bits) {
                uint64_t bits;
                std::memcpy(&bits, group + layout.fifth_bits + 8 * (4 * half + j), 8);
                quanta[j] = add_sixteen(quanta[j], bits);
            }
        }
    }

    static inline __attribute__((always_inline)) i32x16 dot(int32_t sum, const u8x64* quanta, const int8_t* values) {
        if constexpr (wide) return dot_wide(i32x16{} + wide_start(sum), quanta, values);
        return dot_narrow(i32x16{} - offset * sum, quanta, values);
    }
};

template <Kind kind, int tokens>
inline __attribute__((always_inline)) void multiply_quantised(const Weight& weight, const uint8_t* tile,
                                                              const Activations& x, int first, f32x16* totals) {
    const int groups = weight.groups(), stride = x.groups();
    const int8_t* quanta = x.quanta + static_cast<size_t>(first) * stride * GROUP;
    const size_t at = static_cast<size_t>(first) * stride;
    f32x16 total[tokens];
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) total[t] = f32x16{};
    for (int g = 0; g < groups; ++g, tile += weight.layout.group) {
        f32x16 sums[tokens];
        // Half a group at a time meets all tokens: that many weights stay in registers.
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            u8x64 weights[4];
            Group<kind>::load(tile, weight.layout, half, weights);
#pragma GCC unroll 8
            for (int t = 0; t < tokens; ++t) {
                const size_t place = 2 * (at + static_cast<size_t>(t) * stride + g) + half;
                const int8_t* row = quanta + (static_cast<size_t>(t) * stride + g) * GROUP + LANES * half;
                const f32x16 sum = to_float(Group<kind>::dot(x.sums[place], weights, row));
                sums[t] = half == 0 ? sum * splat(x.scales[place]) : fma(sum, splat(x.scales[place]), sums[t]);
            }
        }
        const f32x16 scales = load_halves(reinterpret_cast<const uint16_t*>(tile));
#pragma GCC unroll 8
        for (int t = 0; t < tokens; ++t) total[t] = fma(sums[t], scales, total[t]);
        if constexpr (Group<kind>::has_minimum) {
            const f32x16 minima = load_halves(reinterpret_cast<const uint16_t*>(tile + weight.layout.minima));
#pragma GCC unroll 8
            for (int t = 0; t < tokens; ++t)
                total[t] = fma(minima, splat(x.scaled_sums[at + static_cast<size_t>(t) * stride + g]), total[t]);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) totals[t] = total[t];
}

template <Kind kind>
inline __attribute__((always_inline)) f32x16 load_column(const uint8_t* tile, int col) {
    if constexpr (kind == Kind::F32) return load(reinterpret_cast<const float*>(tile) + static_cast<size_t>(col) * TILE);
    const uint16_t* from = reinterpret_cast<const uint16_t*>(tile) + static_cast<size_t>(col) * TILE;
    return kind == Kind::F16 ? load_halves(from) : load_bfloats(from);
}

template <Kind kind, int tokens>
inline __attribute__((always_inline)) void multiply_floats(const Weight& weight, const uint8_t* tile,
                                                           const Activations& x, int first, f32x16* totals) {
    const float* values = x.values + static_cast<size_t>(first) * x.cols;
    f32x16 sums[2][tokens];  // of even and odd columns, so that one token alone does not wait for every sum
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) sums[0][t] = sums[1][t] = f32x16{};
    int col = 0;
    for (; col + 1 < weight.cols; col += 2) {
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; odd += LOADED) {
            f32x16 columns[LOADED];
#pragma GCC unroll 2
            for (int c = 0; c < LOADED; ++c) columns[c] = load_column<kind>(tile, col + odd + c);
#pragma GCC unroll 8
            for (int t = 0; t < tokens; ++t) {
                const float* row = values + static_cast<size_t>(t) * x.cols + col + odd;
#pragma GCC unroll 2
                for (int c = 0; c < LOADED; ++c) sums[odd + c][t] = fma(columns[c], splat(row[c]), sums[odd + c][t]);
            }
        }
    }
    if (col < weight.cols) {
        const f32x16 last = load_column<kind>(tile, col);
        for (int t = 0; t < tokens; ++t)
            sums[0][t] = fma(last, splat(values[static_cast<size_t>(t) * x.cols + col]), sums[0][t]);
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) totals[t] = sums[0][t] + sums[1][t];
}

template <Kind kind, int tokens>
__attribute__((noinline)) void multiply_tile(const Weight& weight, int index, const Activations& x, int first,
                                             float* out, size_t out_stride, bool add) {
    f32x16 totals[tokens];
    const uint8_t* tile = weight.tile(index);
    if constexpr (kind >= Kind::Q4_0)
        multiply_quantised<kind, tokens>(weight, tile, x, first, totals);
    else
        multiply_floats<kind, tokens>(weight, tile, x, first, totals);
    const int rows = weight.rows - index * TILE < TILE ? weight.rows - index * TILE : TILE;
    for (int t = 0; t < tokens; ++t) {
        float* to = out + static_cast<size_t>(first + t) * out_stride;
        if (rows == TILE)
            store(to, add ? load(to) + totals[t] : totals[t]);
        else
            store_some(to, add ? load_some(to, rows) + totals[t] : totals[t], rows);
    }
}

// The last `tokens`, fewer than AT_ONCE.
template <Kind kind, int most>
void multiply_rest(int tokens, const Weight& weight, int index, const Activations& x, int first, float* out,
                   size_t out_stride, bool add) {
    if (tokens == most) return multiply_tile<kind, most>(weight, index, x, first, out, out_stride, add);
    if constexpr (most > 1) multiply_rest<kind, most - 1>(tokens, weight, index, x, first, out, out_stride, add);
}

template <Kind kind>
void multiply_kind(const Weight& weight, const Activations& x, int tokens, int first, int last, float* out,
                   size_t out_stride, int column, bool add) {
    for (int index = first; index < last; ++index) {
        float* to = out + column + static_cast<size_t>(index) * TILE;
        int t = 0;
        for (; t + AT_ONCE<kind> <= tokens; t += AT_ONCE<kind>)
            multiply_tile<kind, AT_ONCE<kind>>(weight, index, x, t, to, out_stride, add);
        if (t < tokens) multiply_rest<kind, AT_ONCE<kind> - 1>(tokens - t, weight, index, x, t, to, out_stride, add);
    }
}

void multiply(const Weight& weight, const Activations& x, int tokens, int first, int last, float* out,
              size_t out_stride, int column, bool add) {
    switch (weight.kind) {
        case Kind::F32: return multiply_kind<Kind::F32>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::F16: return multiply_kind<Kind::F16>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::BF16: return multiply_kind<Kind::BF16>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::Q4_0: return multiply_kind<Kind::Q4_0>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::Q4_1: return multiply_kind<Kind::Q4_1>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::Q5_0: return multiply_kind<Kind::Q5_0>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::Q5_1: return multiply_kind<Kind::Q5_1>(weight, x, tokens, first, last, out, out_stride, column, add);
        case Kind::Q8_0: return multiply_kind<Kind::Q8_0>(weight, x, tokens, first, last, out, out_stride, column, add);
    }
}

// ---- one row, decoded

inline float half_at(const uint8_t* from, size_t place) {
    uint16_t half;
    std::memcpy(&half, from + 2 * place, 2);
    return half_bits_to_float(half);
}

template <Kind kind>
void embed_quantised(const Weight& table, const uint8_t* tile, int lane, float* out) {
    using Parts = Group<kind>;
    const TileLayout& layout = table.layout;
    for (int col = 0; col < table.cols; ++col) {
        const int j = col % GROUP / 4, place = 4 * lane + col % 4;
        const uint8_t* group = tile + col / GROUP * layout.group;
        int quantum;
        if constexpr (Parts::wide) {
            quantum = group[layout.quanta + 64 * j + place] - 128;
        } else {
            const int both = group[layout.quanta + 64 * (j % 4) + place];
            quantum = (j < 4 ? both & 15 : both >> 4) - Parts::offset;
            if constexpr (Parts::five_bits)
                quantum += (group[layout.fifth_bits + 8 * j + place / 8] >> place % 8 & 1) << 4;
        }
        out[col] = half_at(group, lane) * static_cast<float>(quantum);
        if constexpr (Parts::has_minimum) out[col] += half_at(group + layout.minima, lane);
    }
}

template <Kind kind>
void embed_floats(const Weight& table, const uint8_t* tile, int lane, float* out) {
    for (int col = 0; col < table.cols; ++col) out[col] = load_column<kind>(tile, col)[lane];
}

void embed(const Weight& table, int row, float* out) {
    const uint8_t* tile = table.tile(row / TILE);
    const int lane = row % TILE;
    switch (table.kind) {
        case Kind::F32: return embed_floats<Kind::F32>(table, tile, lane, out);
        case Kind::F16: return embed_floats<Kind::F16>(table, tile, lane, out);
        case Kind::BF16: return embed_floats<Kind::BF16>(table, tile, lane, out);
        case Kind::Q4_0: return embed_quantised<Kind::Q4_0>(table, tile, lane, out);
        case Kind::Q4_1: return embed_quantised<Kind::Q4_1>(table, tile, lane, out);
        case Kind::Q5_0: return embed_quantised<Kind::Q5_0>(table, tile, lane, out);
        case Kind::Q5_1: return embed_quantised<Kind::Q5_1>(table, tile, lane, out);
        case Kind::Q8_0: return embed_quantised<Kind::Q8_0>(table, tile, lane, out);
    }
}

}  // namespace
}  // namespace quipu
