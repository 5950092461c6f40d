// Sixteen lanes of float or int32, on whatever the machine has. GCC's and Clang's vector types lower to one 512-bit
// register, or four of 128, by the flags that a file is compiled with; only what they cannot say (a fused
// multiply-add, dot products of bytes, half floats) is spelled out for each instruction set. AVX2 has types of its own,
// with the same operators and functions: lanes_avx2.h.
//
// Every operation is exact or rounds once, in the same order in every kernel that uses it. That is what makes a
// token's result independent of which other tokens are in the batch.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace quipu {
namespace {  // each instruction set compiles its own copy

constexpr int LANES = 16;

inline int32_t load_four(const int8_t* from) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline float half_bits_to_float(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    uint32_t bits;
    if (magnitude >= 0x7c00) {
        bits = sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
    } else if (magnitude >= 0x400) {
        bits = sign | ((magnitude << 13) + (112u << 23));
    } else {  // subnormal: magnitude * 2^-24, exact
        const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        std::memcpy(&bits, &value, 4);
        bits |= sign;
    }
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline uint16_t float_to_half_bits(float value) {  // rounds to nearest even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | 0x7e00u;
    if (magnitude >= 0x47800000u) return sign | 0x7c00u;  // 65536 and more, infinity
    if (magnitude < 0x38800000u) {                        // below the least normal half
        float least = value < 0 ? -value : value;
        least += 0.5f;  // 0.5 has an ulp of 2^-24, that of subnormal halves
        uint32_t shifted;
        std::memcpy(&shifted, &least, 4);
        return sign | static_cast<uint16_t>(shifted - 0x3f000000u);
    }
    return sign | static_cast<uint16_t>((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

}  // namespace
}  // namespace quipu

#if defined(__AVX2__) && !defined(__AVX512F__)
#include "lanes_avx2.h"
#endif

namespace quipu {
namespace {

#if !defined(__AVX2__) || defined(__AVX512F__)

constexpr int LOADED = 2;  // vectors that loops keep ready to meet several sums

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint8_t u8x64 __attribute__((vector_size(64)));

inline f32x16 select(i32x16 mask, f32x16 a, f32x16 b) { return mask ? a : b; }

inline i32x16 bits_of(f32x16 value) { return reinterpret_cast<i32x16>(value); }
inline f32x16 floats_of(i32x16 bits) { return reinterpret_cast<f32x16>(bits); }

inline f32x16 to_float(i32x16 value) { return __builtin_convertvector(value, f32x16); }

inline i32x16 lane_numbers() { return i32x16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

inline f32x16 splat(float value) { return value - f32x16{}; }

inline f32x16 load(const float* from) {
    f32x16 value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline void store(float* to, f32x16 value) { std::memcpy(to, &value, sizeof value); }

inline u8x64 load_bytes(const uint8_t* from) {
    u8x64 value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#else
    return a * b + c;  // compiled with -ffp-contract=off: rounds twice, always
#endif
}

inline float sum(f32x16 value) {  // a fixed tree: halves are added to each other
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(value);
#else
    float lanes[LANES];
    store(lanes, value);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
#endif
}

inline int32_t sum(i32x16 value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_epi32((__m512i)value);
#else
    int32_t total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += value[lane];
    return total;
#endif
}

inline int32_t largest(i32x16 value) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_epi32((__m512i)value);
#else
    int32_t most = value[0];
    for (int lane = 1; lane < LANES; ++lane) most = value[lane] > most ? value[lane] : most;
    return most;
#endif
}

inline float largest(f32x16 value) {  // of lanes that are numbers
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(value);
#else
    float most = value[0];
    for (int lane = 1; lane < LANES; ++lane) most = value[lane] > most ? value[lane] : most;
    return most;
#endif
}

// ---- narrow numbers

inline f32x16 load_halves(const uint16_t* from) {
#if defined(__AVX512F__)
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#else
    f32x16 value;
    for (int lane = 0; lane < LANES; ++lane) value[lane] = half_bits_to_float(from[lane]);
    return value;
#endif
}

inline void store_halves(uint16_t* to, f32x16 value) {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_maskz_cvtps_ph(0xffff, value, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int lane = 0; lane < LANES; ++lane) to[lane] = float_to_half_bits(value[lane]);
#endif
}

inline f32x16 load_bfloats(const uint16_t* from) {
    typedef uint16_t u16x16 __attribute__((vector_size(32)));
    typedef uint32_t u32x16 __attribute__((vector_size(64)));
    u16x16 narrow;
    std::memcpy(&narrow, from, sizeof narrow);
    const u32x16 wide = __builtin_convertvector(narrow, u32x16) << 16;
    return reinterpret_cast<f32x16>(wide);
}

inline f32x16 load_signed_bytes(const int8_t* from) {
#if defined(__AVX512F__)  // GCC 12 converts lane by lane
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
    typedef int8_t i8x16 __attribute__((vector_size(16)));
    i8x16 narrow;
    std::memcpy(&narrow, from, sizeof narrow);
    return to_float(__builtin_convertvector(narrow, i32x16));
#endif
}

inline void store_signed_bytes(int8_t* to, i32x16 value) {  // of values that fit
    typedef int8_t i8x16 __attribute__((vector_size(16)));
    const i8x16 narrow = __builtin_convertvector(value, i8x16);
    std::memcpy(to, &narrow, sizeof narrow);
}

// ---- bytes

inline u8x64 low_nibbles(u8x64 value) { return value & 15; }
inline u8x64 high_nibbles(u8x64 value) { return value >> 4; }

// Adds 16 to every byte whose bit is set in `bits`: the fifth bit of five-bit weights.
inline u8x64 add_sixteen(u8x64 values, uint64_t bits) {
#if defined(__AVX512BW__)
    return (u8x64)_mm512_mask_add_epi8((__m512i)values, bits, (__m512i)values, _mm512_set1_epi8(16));
#else
    for (int place = 0; place < 64; ++place) values[place] |= (bits >> place & 1) << 4;
    return values;
#endif
}

// ---- dot products of bytes: four products are added to each lane

inline i32x16 dot_four(i32x16 sums, u8x64 weights, int32_t four) {
#if defined(__AVX512VNNI__)
    return (i32x16)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)weights, _mm512_set1_epi32(four));
#else
    int8_t values[4];
    std::memcpy(values, &four, 4);
    for (int lane = 0; lane < LANES; ++lane) {
        int total = 0;
        for (int place = 0; place < 4; ++place) total += weights[4 * lane + place] * values[place];
        sums[lane] += total;
    }
    return sums;
#endif
}

// The products of sixteen columns, four vectors of weights that are at most 31, added to `sums`.
inline __attribute__((always_inline)) i32x16 dot_narrow(i32x16 sums, const u8x64* weights, const int8_t* values) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums = dot_four(sums, weights[j], load_four(values + 4 * j));
    return sums;
}

// The same for weights of eight bits, stored as value + 128. With `sums` begun at `wide_start` it gives the dot
// product of the signed values.
inline __attribute__((always_inline)) i32x16 dot_wide(i32x16 sums, const u8x64* weights, const int8_t* values) {
    return dot_narrow(sums, weights, values);
}

inline int32_t wide_start(int32_t sum_of_activations) { return -128 * sum_of_activations; }

#endif

// The first `count` lanes, 0 <= count <= 16.
inline void store_some(float* to, f32x16 value, int count) { std::memcpy(to, &value, count * sizeof(float)); }

inline f32x16 load_some(const float* from, int count) {
    f32x16 value{};
    std::memcpy(&value, from, count * sizeof(float));
    return value;
}

inline f32x16 larger(f32x16 a, f32x16 b) { return select(a > b, a, b); }

// ---- exponential: 2^n * p(r) with x = n ln 2 + r, |r| <= ln 2 / 2; relative error below 2e-7 (Cephes' expf)

inline f32x16 exp(f32x16 x) {
    const f32x16 lowest = splat(-87.0f), highest = splat(88.0f);
    const i32x16 vanishes = x < lowest;
    x = select(vanishes, lowest, x);
    x = select(x > highest, highest, x);
    const f32x16 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const f32x16 shifted = fma(x, splat(1.44269504088896341f), magic);
    const f32x16 n = shifted - magic;
    f32x16 r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    f32x16 p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + splat(1.0f);
    const i32x16 power = (bits_of(shifted) + 127) << 23;  // the integer is in shifted's low bits
    const f32x16 result = p * floats_of(power);
    return select(vanishes, f32x16{}, result);
}

inline float exp(float x) { return exp(splat(x))[0]; }

}  // namespace
}  // namespace quipu
