// lanes.h for AVX2, where sixteen lanes are two registers. GCC moves vector types that are wider than a register
// through memory, wherever they are cut, joined or passed on: the halves are written out instead, and everything is
// inlined, for no structure of two registers is passed in registers.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace quipu {
namespace {

#define EVERY_LANE inline __attribute__((always_inline))

constexpr int LOADED = 1;  // two of them would leave no room for three pairs of sums in 16 registers

typedef int32_t i32x8 __attribute__((vector_size(32)));

struct f32x16 {
    __m256 low, high;
    EVERY_LANE float operator[](int lane) const {
        float lanes[LANES];
        std::memcpy(lanes, this, sizeof lanes);
        return lanes[lane];
    }
};

struct i32x16 {
    i32x8 low, high;
};

struct u8x64 {
    __m256i low, high;
};

EVERY_LANE f32x16 operator+(f32x16 a, f32x16 b) { return {a.low + b.low, a.high + b.high}; }
EVERY_LANE f32x16 operator-(f32x16 a, f32x16 b) { return {a.low - b.low, a.high - b.high}; }
EVERY_LANE f32x16 operator*(f32x16 a, f32x16 b) { return {a.low * b.low, a.high * b.high}; }
EVERY_LANE f32x16 operator/(f32x16 a, f32x16 b) { return {a.low / b.low, a.high / b.high}; }
EVERY_LANE f32x16& operator+=(f32x16& a, f32x16 b) { return a = a + b; }
EVERY_LANE f32x16& operator*=(f32x16& a, f32x16 b) { return a = a * b; }

EVERY_LANE i32x16 operator+(i32x16 a, i32x16 b) { return {a.low + b.low, a.high + b.high}; }
EVERY_LANE i32x16 operator+(i32x16 a, int32_t b) { return {a.low + b, a.high + b}; }
EVERY_LANE i32x16 operator-(i32x16 a, int32_t b) { return {a.low - b, a.high - b}; }
EVERY_LANE i32x16 operator&(i32x16 a, i32x16 b) { return {a.low & b.low, a.high & b.high}; }
EVERY_LANE i32x16 operator&(i32x16 a, int32_t b) { return {a.low & b, a.high & b}; }
EVERY_LANE i32x16 operator<<(i32x16 a, int count) { return {a.low << count, a.high << count}; }

// Masks: all bits of a lane, or none.
EVERY_LANE i32x16 operator<(i32x16 a, int32_t b) { return {a.low < b, a.high < b}; }
EVERY_LANE i32x16 operator>=(i32x16 a, int32_t b) { return {a.low >= b, a.high >= b}; }
EVERY_LANE i32x16 operator<(f32x16 a, f32x16 b) { return {a.low < b.low, a.high < b.high}; }
EVERY_LANE i32x16 operator>(f32x16 a, f32x16 b) { return {a.low > b.low, a.high > b.high}; }
EVERY_LANE i32x16 operator==(f32x16 a, f32x16 b) { return {a.low == b.low, a.high == b.high}; }

EVERY_LANE f32x16 select(i32x16 mask, f32x16 a, f32x16 b) {
    return {_mm256_blendv_ps(b.low, a.low, (__m256)mask.low), _mm256_blendv_ps(b.high, a.high, (__m256)mask.high)};
}

EVERY_LANE i32x16 bits_of(f32x16 value) { return {(i32x8)value.low, (i32x8)value.high}; }
EVERY_LANE f32x16 floats_of(i32x16 bits) { return {(__m256)bits.low, (__m256)bits.high}; }

EVERY_LANE f32x16 to_float(i32x16 value) {
    return {_mm256_cvtepi32_ps((__m256i)value.low), _mm256_cvtepi32_ps((__m256i)value.high)};
}

EVERY_LANE i32x16 lane_numbers() { return {i32x8{0, 1, 2, 3, 4, 5, 6, 7}, i32x8{8, 9, 10, 11, 12, 13, 14, 15}}; }

EVERY_LANE f32x16 splat(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }

EVERY_LANE f32x16 load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }

EVERY_LANE void store(float* to, f32x16 value) {
    _mm256_storeu_ps(to, value.low);
    _mm256_storeu_ps(to + 8, value.high);
}

EVERY_LANE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

// ---- reductions: halves are put together with `both` until one lane is left

template <typename Quarter, typename Both>
EVERY_LANE Quarter reduce(Quarter four, const Both& both) {
    four = both(four, (Quarter)_mm_shuffle_epi32((__m128i)four, 0b1110));
    return both(four, (Quarter)_mm_shuffle_epi32((__m128i)four, 0b01));
}

EVERY_LANE float sum(f32x16 value) {
    const __m256 eight = value.low + value.high;
    const auto plus = [](__m128 a, __m128 b) { return a + b; };
    return reduce(plus(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)), plus)[0];
}

EVERY_LANE float largest(f32x16 value) {  // of lanes that are numbers
    const __m256 eight = _mm256_max_ps(value.low, value.high);
    const auto larger = [](__m128 a, __m128 b) { return _mm_max_ps(a, b); };
    return reduce(larger(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)), larger)[0];
}

EVERY_LANE int32_t sum(i32x16 value) {
    const __m256i eight = (__m256i)(value.low + value.high);
    const auto plus = [](__m128i a, __m128i b) { return _mm_add_epi32(a, b); };
    return _mm_cvtsi128_si32(reduce(plus(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1)), plus));
}

EVERY_LANE int32_t largest(i32x16 value) {
    const __m256i eight = _mm256_max_epi32((__m256i)value.low, (__m256i)value.high);
    const auto larger = [](__m128i a, __m128i b) { return _mm_max_epi32(a, b); };
    return _mm_cvtsi128_si32(reduce(larger(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1)), larger));
}

// ---- narrow numbers

EVERY_LANE __m128i load_narrow(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

EVERY_LANE f32x16 load_halves(const uint16_t* from) {
    return {_mm256_cvtph_ps(load_narrow(from)), _mm256_cvtph_ps(load_narrow(from + 8))};
}

EVERY_LANE void store_halves(uint16_t* to, f32x16 value) {
    __m128i* halves = reinterpret_cast<__m128i*>(to);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(value.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(value.high, _MM_FROUND_TO_NEAREST_INT));
}

EVERY_LANE f32x16 load_bfloats(const uint16_t* from) {
    const auto eight = [](__m128i halves) { return (__m256)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16); };
    return {eight(load_narrow(from)), eight(load_narrow(from + 8))};
}

EVERY_LANE f32x16 load_signed_bytes(const int8_t* from) {
    const __m128i bytes = load_narrow(from);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}

EVERY_LANE void store_signed_bytes(int8_t* to, i32x16 value) {  // of values that fit
    const __m256i words = _mm256_packs_epi32((__m256i)value.low, (__m256i)value.high);  // 0-3 8-11 | 4-7 12-15
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0b11011000);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}

// ---- bytes

EVERY_LANE u8x64 load_bytes(const uint8_t* from) {
    const __m256i* halves = reinterpret_cast<const __m256i*>(from);
    return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}

EVERY_LANE u8x64 low_nibbles(u8x64 value) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {value.low & mask, value.high & mask};
}

EVERY_LANE u8x64 high_nibbles(u8x64 value) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_srli_epi16(value.low, 4) & mask, _mm256_srli_epi16(value.high, 4) & mask};
}

// Adds 16 to every byte whose bit is set in `bits`: the fifth bit of five-bit weights.
EVERY_LANE u8x64 add_sixteen(u8x64 values, uint64_t bits) {
    const auto half = [](__m256i bytes, int32_t own) {
        const __m256i place = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
        const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
        const __m256i set = _mm256_shuffle_epi8(_mm256_set1_epi32(own), spread) & place;
        return bytes | (_mm256_cmpeq_epi8(set, place) & _mm256_set1_epi8(16));
    };
    return {half(values.low, static_cast<int32_t>(bits)), half(values.high, static_cast<int32_t>(bits >> 32))};
}

// ---- dot products of bytes

// Sums of two products in 16 bits, those of sixteen columns added up before they are widened: 4 * 2 * 31 * 127 fits.
EVERY_LANE i32x16 dot_narrow(i32x16 sums, const u8x64* weights, const int8_t* values) {
    __m256i low = _mm256_setzero_si256(), high = low;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        const __m256i four = _mm256_set1_epi32(load_four(values + 4 * j));
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(weights[j].low, four));
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(weights[j].high, four));
    }
    const __m256i ones = _mm256_set1_epi16(1);
    return {sums.low + (i32x8)_mm256_madd_epi16(low, ones), sums.high + (i32x8)_mm256_madd_epi16(high, ones)};
}

// Of eight bits two products are all that 16 hold: |weight| <= 128 times |activation| <= 127, twice, is 32512.
EVERY_LANE i32x16 dot_wide(i32x16 sums, const u8x64* weights, const int8_t* values) {
    const __m256i ones = _mm256_set1_epi16(1), offset = _mm256_set1_epi8(-128);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        const __m256i four = _mm256_set1_epi32(load_four(values + 4 * j));
        const auto half = [&](i32x8 sum, __m256i stored) {
            const __m256i weight = stored ^ offset;
            const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(four, weight));
            return sum + (i32x8)_mm256_madd_epi16(pairs, ones);
        };
        sums = {half(sums.low, weights[j].low), half(sums.high, weights[j].high)};
    }
    return sums;
}

inline int32_t wide_start(int32_t) { return 0; }

#undef EVERY_LANE

}  // namespace
}  // namespace quipu
