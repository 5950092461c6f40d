// What stands between the matrix products: norms, quantising, SwiGLU, rotary embedding in two layouts.
#pragma once

#include <cmath>
#include <limits>

#include "kernels.h"
#include "lanes.h"

namespace quipu {
namespace {

// Up to 16 of `count` values from place `at`, zeros behind them.
inline f32x16 load_row(const float* row, int at, int count) {
    return count - at >= LANES ? load(row + at) : load_some(row + at, count - at);
}

inline void store_row(float* row, int at, int count, f32x16 value) {
    if (count - at >= LANES)
        store(row + at, value);
    else
        store_some(row + at, value, count - at);
}

// Sixteen values into the quantised form: their quanta go to `quanta`; gives the scale and the sum of the quanta.
inline float quantise_sixteen(f32x16 values, int8_t* quanta, int32_t* total) {
    // Magnitudes in the order of their bits, in which what is no number is the largest: it makes the scale none, so
    // that it cannot vanish on the way.
    const int32_t bits = largest(bits_of(values) & 0x7fffffff);
    const bool finite = bits < 0x7f800000;
    float most;
    std::memcpy(&most, &bits, 4);
    const float inverse = finite && most > 1e-30f ? 127.0f / most : 0.0f;
    const f32x16 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
    const f32x16 scaled = finite ? values * splat(inverse) : f32x16{};
    const i32x16 rounded = bits_of(scaled + magic) - 0x4b400000;
    store_signed_bytes(quanta, rounded);
    *total = sum(rounded);
    return finite ? most / 127.0f : std::numeric_limits<float>::quiet_NaN();
}

void quantise(const float* in, const Activations& out, int t) {
    const size_t row = static_cast<size_t>(t) * out.groups();
    for (int g = 0; g < out.groups(); ++g) {
        float scaled_sum = 0;
        for (int half = 0; half < 2; ++half) {
            const int at = g * GROUP + half * LANES;
            const f32x16 values = at < out.cols ? load_row(in, at, out.cols) : f32x16{};
            const size_t place = (row + g) * 2 + half;
            out.scales[place] = quantise_sixteen(values, out.quanta + place * LANES, out.sums + place);
            scaled_sum += out.scales[place] * static_cast<float>(out.sums[place]);
        }
        out.scaled_sums[row + g] = scaled_sum;
    }
}

void rms_norm(const float* in, const float* weight, float epsilon, const Activations& out, int t) {
    f32x16 squares{};
    for (int at = 0; at < out.cols; at += LANES) {
        const f32x16 value = load_row(in, at, out.cols);
        squares = fma(value, value, squares);
    }
    const float factor = 1.0f / std::sqrt(sum(squares) / static_cast<float>(out.cols) + epsilon);
    float* normed = out.values + static_cast<size_t>(t) * out.cols;
    for (int at = 0; at < out.cols; at += LANES) {
        const f32x16 value = load_row(in, at, out.cols) * splat(factor) * load_row(weight, at, out.cols);
        store_row(normed, at, out.cols, value);
    }
    if (out.quanta != nullptr) quantise(normed, out, t);
}

void swiglu(const float* gate_up, const Activations& out, int t) {
    const float* up = gate_up + out.cols;
    float* product = out.values + static_cast<size_t>(t) * out.cols;
    for (int at = 0; at < out.cols; at += LANES) {
        const f32x16 gate = load_row(gate_up, at, out.cols);
        const f32x16 silu = gate / (splat(1.0f) + exp(f32x16{} - gate));
        store_row(product, at, out.cols, silu * load_row(up, at, out.cols));
    }
    if (out.quanta != nullptr) quantise(product, out, t);
}

void layer_norm(const float* in, const float* weight, const float* bias, float epsilon, const Activations& out, int t) {
    f32x16 total{};
    for (int at = 0; at < out.cols; at += LANES) total += load_row(in, at, out.cols);
    const float mean = sum(total) / static_cast<float>(out.cols);
    float squares = 0;  // of differences: those of the values themselves would cancel
    int at = 0;
    f32x16 wide{};
    for (; at + LANES <= out.cols; at += LANES) {
        const f32x16 value = load(in + at) - splat(mean);
        wide = fma(value, value, wide);
    }
    for (; at < out.cols; ++at) squares += (in[at] - mean) * (in[at] - mean);
    const float factor = 1.0f / std::sqrt((sum(wide) + squares) / static_cast<float>(out.cols) + epsilon);
    float* normed = out.values + static_cast<size_t>(t) * out.cols;
    for (at = 0; at < out.cols; at += LANES) {
        const f32x16 value = (load_row(in, at, out.cols) - splat(mean)) * splat(factor);
        store_row(normed, at, out.cols, fma(value, load_row(weight, at, out.cols), load_row(bias, at, out.cols)));
    }
    if (out.quanta != nullptr) quantise(normed, out, t);
}

// The error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26), for values of 0 and more.
inline f32x16 error_function(f32x16 x) {
    const f32x16 t = splat(1.0f) / fma(splat(0.3275911f), x, splat(1.0f));
    f32x16 polynomial = fma(splat(1.061405429f), t, splat(-1.453152027f));
    polynomial = fma(polynomial, t, splat(1.421413741f));
    polynomial = fma(polynomial, t, splat(-0.284496736f));
    polynomial = fma(polynomial, t, splat(0.254829592f));
    return splat(1.0f) - polynomial * t * exp(f32x16{} - x * x);
}

void gelu(const float* in, const float* bias, const Activations& out, int t) {
    float* made = out.values + static_cast<size_t>(t) * out.cols;
    for (int at = 0; at < out.cols; at += LANES) {
        f32x16 value = load_row(in, at, out.cols);
        if (bias != nullptr) value += load_row(bias, at, out.cols);
        const f32x16 size = larger(value, f32x16{} - value);
        const f32x16 error = error_function(size * splat(0.70710678f));
        // x / 2 (1 + erf(x / sqrt 2)), whose sign is that of x.
        store_row(made, at, out.cols, splat(0.5f) * fma(size, error, value));
    }
    if (out.quanta != nullptr) quantise(made, out, t);
}

void rotate(float* head, const float* cosines, const float* sines, int size, float scale) {
    const int half = size / 2;
    for (int at = 0; at < half; at += LANES) {
        const f32x16 first = load_row(head, at, half), second = load_row(head + half, at, half);
        const f32x16 cosine = load_row(cosines, at, half), sine = load_row(sines, at, half);
        store_row(head, at, half, (first * cosine - second * sine) * splat(scale));
        store_row(head + half, at, half, (second * cosine + first * sine) * splat(scale));
    }
}

void rotate_pairs(float* head, const float* cosines, const float* sines, int size, float scale) {
    for (int pair = 0; pair < size / 2; ++pair) {
        const float even = head[2 * pair], odd = head[2 * pair + 1];
        head[2 * pair] = (even * cosines[pair] - odd * sines[pair]) * scale;
        head[2 * pair + 1] = (odd * cosines[pair] + even * sines[pair]) * scale;
    }
}

void norm_head(float* head, int size, float epsilon, float scale) {
    f32x16 squares{};
    for (int at = 0; at < size; at += LANES) {
        const f32x16 value = load_row(head, at, size);
        squares = fma(value, value, squares);
    }
    const float factor = scale / std::sqrt(sum(squares) / static_cast<float>(size) + epsilon);
    for (int at = 0; at < size; at += LANES) store_row(head, at, size, load_row(head, at, size) * splat(factor));
}

}  // namespace
}  // namespace quipu
