/* The vectors of the two builds under one name: 16 bytes with SSE2, 32 with AVX2.
 *
 * No fused multiply and add anywhere: results are cut off to bytes, so that one rounding less would move pixels.
 * The compiler must be told (-ffp-contract=off); AVX2 is enabled without FMA for the same reason. */
#ifndef LANES_H
#define LANES_H

#if !defined(__x86_64__) || !defined(__GNUC__)
#error "the native view engine is written for x86-64 and for GCC or Clang; Pillow renders everywhere else"
#endif
#ifdef __FAST_MATH__
#error "-ffast-math would change pixels"
#endif

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef int32_t Int4 __attribute__((vector_size(16)));
typedef double Double4 __attribute__((vector_size(32)));

#ifdef VIEWS_AVX2
typedef __m256i Lanes;
#define LANES 32
#define lanes_zero() _mm256_setzero_si256()
#define lanes_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define lanes_store(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define lanes_set32(x) _mm256_set1_epi32(x)
#define lanes_low8(a, b) _mm256_unpacklo_epi8(a, b)
#define lanes_high8(a, b) _mm256_unpackhi_epi8(a, b)
#define lanes_add32(a, b) _mm256_add_epi32(a, b)
#define lanes_madd16(a, b) _mm256_madd_epi16(a, b)
#define lanes_up32(a, n) _mm256_slli_epi32(a, n)
#define lanes_down32(a, n) _mm256_srai_epi32(a, n)
#define lanes_and(a, b) _mm256_and_si256(a, b)
#define lanes_above32(a, b) _mm256_cmpgt_epi32(a, b)
#define lanes_equal8(a, b) _mm256_cmpeq_epi8(a, b)
#define lanes_pack32(a, b) _mm256_packs_epi32(a, b)
#define lanes_pack16(a, b) _mm256_packs_epi16(a, b)
#define lanes_packu16(a, b) _mm256_packus_epi16(a, b)
#define lanes_mask8(a) (uint32_t) _mm256_movemask_epi8(a)
#else
typedef __m128i Lanes;
#define LANES 16
#define lanes_zero() _mm_setzero_si128()
#define lanes_load(p) _mm_loadu_si128((const __m128i *)(p))
#define lanes_store(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define lanes_set32(x) _mm_set1_epi32(x)
#define lanes_low8(a, b) _mm_unpacklo_epi8(a, b)
#define lanes_high8(a, b) _mm_unpackhi_epi8(a, b)
#define lanes_add32(a, b) _mm_add_epi32(a, b)
#define lanes_madd16(a, b) _mm_madd_epi16(a, b)
#define lanes_up32(a, n) _mm_slli_epi32(a, n)
#define lanes_down32(a, n) _mm_srai_epi32(a, n)
#define lanes_and(a, b) _mm_and_si128(a, b)
#define lanes_above32(a, b) _mm_cmpgt_epi32(a, b)
#define lanes_equal8(a, b) _mm_cmpeq_epi8(a, b)
#define lanes_pack32(a, b) _mm_packs_epi32(a, b)
#define lanes_pack16(a, b) _mm_packs_epi16(a, b)
#define lanes_packu16(a, b) _mm_packus_epi16(a, b)
#define lanes_mask8(a) (uint32_t) _mm_movemask_epi8(a)
#endif

INLINE int clamp(int value, int count) { return value < 0 ? 0 : value >= count ? count - 1 : value; }
INLINE uint8_t to_byte(int value) { return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value; }

/* ---- exact fixed-point sums of bytes: coefficients of 22 fractional bits, as in Pillow's resize.
 *
 * A coefficient is high * 2^15 + low with low in 0..32767, so that the 16-bit multiplies all x86-64 processors
 * have give the exact 32-bit sum. It may wrap on its way: only the end counts, and that fits. Two taps share a
 * word of `low` and one of `high`. */
enum { FRACTION = 22, SPLIT = 15 };

typedef struct {
    int32_t low, high;
} TapPair;

INLINE TapPair tap_pair(int32_t first, int32_t second) {
    uint32_t low = ((uint32_t)second & 0x7fff) << 16 | ((uint32_t)first & 0x7fff);
    uint32_t high = (uint32_t)(second >> SPLIT) << 16 | ((uint32_t)(first >> SPLIT) & 0xffff);
    return (TapPair){(int32_t)low, (int32_t)high};
}

/* Sums of LANES bytes, still with their fraction; sum[i] holds four or eight of them, in the order in which
 * lanes_pack32 and lanes_packu16 put them back. */
typedef struct {
    Lanes sum[4];
} Sums;

/* LANES bytes at `p`, times the first tap, and at p + step, times the second, and so on in pairs. */
INLINE Sums sum_taps(const uint8_t *p, ptrdiff_t step, const TapPair *taps, int pairs, int32_t start) {
    const Lanes zero = lanes_zero();
    Lanes low[4], high[4];
    for (int i = 0; i < 4; i++) low[i] = lanes_set32(start), high[i] = zero;
    for (int j = 0; j < pairs; j++, p += 2 * step) {
        const Lanes k = lanes_set32(taps[j].low), l = lanes_set32(taps[j].high);
        const Lanes a = lanes_load(p), b = lanes_load(p + step);
        const Lanes start_ab = lanes_low8(a, b), end_ab = lanes_high8(a, b);
        const Lanes words[4] = {lanes_low8(start_ab, zero), lanes_high8(start_ab, zero), lanes_low8(end_ab, zero),
                                lanes_high8(end_ab, zero)};
        for (int i = 0; i < 4; i++) {
            low[i] = lanes_add32(low[i], lanes_madd16(words[i], k));
            high[i] = lanes_add32(high[i], lanes_madd16(words[i], l));
        }
    }
    Sums all;
    for (int i = 0; i < 4; i++) all.sum[i] = lanes_add32(lanes_up32(high[i], SPLIT), low[i]);
    return all;
}

/* Drop the fraction and clip to bytes. */
INLINE Lanes sums_to_bytes(const Sums *s) {
    const Lanes a = lanes_pack32(lanes_down32(s->sum[0], FRACTION), lanes_down32(s->sum[1], FRACTION));
    const Lanes b = lanes_pack32(lanes_down32(s->sum[2], FRACTION), lanes_down32(s->sum[3], FRACTION));
    return lanes_packu16(a, b);
}

#endif
