/* Geometric ops on a square view: Pillow's Image.transform with the inverse matrix, in its double precision.
 *
 * What would be read outside the image gets the fill colour. As in slides.h, sums of limited precision decide where
 * they are not in doubt. */
#ifndef WARPS_H
#define WARPS_H

#include "slides.h"

/* Bicubic pixels whose 4 x 4 taps are all in the image, in fixed point along x (22 bits) and in
 * single precision along y, of which 16 bits are kept. Weights are wrong by less than 2^-21 (the second of four, which
 * takes up the errors of the others, by three times as much), sums of floats by 6 * 2^-24 of their terms; together
 * that is less than 112 of 2^16. 192 are taken for doubtful. */
enum { WARP_KEPT = 16, WARP_NEAR = 192, ROW_PARTS = 10 };

/* What a row of output needs, each an array of `size`. */
typedef struct {
    double *x, *y;         /* where it is read */
    float *dx, *dy;        /* fractions */
    int32_t *taps;         /* 4 a pixel: low 01, low 23, high 01, high 23 */
    float *weights;        /* 4 a pixel, for the rows */
    uint8_t *full;         /* 1: all taps are in the image */
} WarpRow;

INLINE double held(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

static void plan_row(const WarpRow *r, int size, const double m[6], int y) {
    double *restrict at_x = r->x, *restrict at_y = r->y;
    float *restrict dx = r->dx, *restrict dy = r->dy, *restrict weights = r->weights;
    int32_t *restrict taps = r->taps;
    uint8_t *restrict full = r->full;
    for (int x = 0; x < size; x++) { /* beyond -2 and size + 2 all is outside; now it fits an int */
        at_x[x] = held(place(m, x + 0.5, y + 0.5), -2.0, size + 2.0);
        at_y[x] = held(place(m + 3, x + 0.5, y + 0.5), -2.0, size + 2.0);
    }
    for (int x = 0; x < size; x++) {
        const double fx = at_x[x] - 0.5, fy = at_y[x] - 0.5;
        const int ix = (int)fx, iy = (int)fy;
        dx[x] = (float)(fx - ix), dy[x] = (float)(fy - iy);
        full[x] = (ix >= 1) & (ix < size - 2) & (iy >= 1) & (iy < size - 2);
    }
    for (int x = 0; x < size; x++) {
        const float f = dx[x], square = f * f, cube = square * f, one = (float)(1 << FRACTION);
        const int32_t a = (int32_t)((2 * square - f - cube) * one), c = (int32_t)((f + square - cube) * one);
        const int32_t d = (int32_t)((cube - square) * one), b = (1 << FRACTION) - a - c - d;
        const TapPair first = tap_pair(a, b), second = tap_pair(c, d);
        taps[4 * x] = first.low, taps[4 * x + 1] = second.low;
        taps[4 * x + 2] = first.high, taps[4 * x + 3] = second.high;
    }
    for (int x = 0; x < size; x++) {
        const float f = dy[x], square = f * f, cube = square * f, one = 1.0f / (1 << (FRACTION - WARP_KEPT));
        const float a = 2 * square - f - cube, c = f + square - cube, d = cube - square;
        weights[4 * x] = a * one, weights[4 * x + 1] = (1 - a - c - d) * one;
        weights[4 * x + 2] = c * one, weights[4 * x + 3] = d * one;
    }
}

/* One pixel, `p` its first tap. Returns 1 when it is left in doubt. Reads 16 bytes a row, writes four. */
INLINE int warp_pixel(const uint8_t *p, size_t line, const int32_t taps[4], const float weights[4], uint8_t *to) {
#ifdef VIEWS_AVX2
    /* R, G and B of four taps side by side; the two halves of each sum are added last. */
    const __m128i order = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
    int64_t pair[2];
    memcpy(pair, taps, 16);
    const __m256i low = _mm256_set1_epi64x(pair[0]), high = _mm256_set1_epi64x(pair[1]);
    __m128i row[4];
    __m256 sum = _mm256_setzero_ps();
    for (int k = 0; k < 4; k++) {
        row[k] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + (size_t)k * line)), order);
        const __m256i words = _mm256_cvtepu8_epi16(row[k]);
        const __m256i across = lanes_add32(lanes_up32(lanes_madd16(words, high), SPLIT), lanes_madd16(words, low));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_cvtepi32_ps(across), _mm256_set1_ps(weights[k])));
    }
    const __m128 pixel = _mm_hadd_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
#else
    const __m128i zero = _mm_setzero_si128();
    const __m128i low[2] = {_mm_set1_epi32(taps[0]), _mm_set1_epi32(taps[1])};
    const __m128i high[2] = {_mm_set1_epi32(taps[2]), _mm_set1_epi32(taps[3])};
    __m128 pixel = _mm_setzero_ps();
    __m128i row[4];
    for (int k = 0; k < 4; k++) {
        const uint8_t *from = p + (size_t)k * line;
        __m128i below = zero, above = zero;
        for (int half = 0; half < 2; half++) {
            const __m128i two = _mm_loadl_epi64((const __m128i *)(from + 6 * half));
            const __m128i words = _mm_unpacklo_epi8(_mm_unpacklo_epi8(two, _mm_srli_epi64(two, 24)), zero);
            below = _mm_add_epi32(below, _mm_madd_epi16(words, low[half]));
            above = _mm_add_epi32(above, _mm_madd_epi16(words, high[half]));
        }
        const __m128i across = _mm_add_epi32(_mm_slli_epi32(above, SPLIT), below);
        pixel = _mm_add_ps(pixel, _mm_mul_ps(_mm_cvtepi32_ps(across), _mm_set1_ps(weights[k])));
        row[k] = _mm_loadu_si128((const __m128i *)from);
    }
#endif
    const __m128i value = _mm_cvttps_epi32(pixel);
    const __m128i fraction = _mm_and_si128(_mm_add_epi32(value, _mm_set1_epi32(WARP_NEAR)), _mm_set1_epi32(0xffff));
    const __m128i close = _mm_cmpgt_epi32(_mm_set1_epi32(2 * WARP_NEAR), fraction);
    const __m128i words = _mm_packs_epi32(_mm_srai_epi32(value, WARP_KEPT), _mm_setzero_si128());
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(to, &bytes, 4);
    if (!(_mm_movemask_ps(_mm_castsi128_ps(close)) & 7)) return 0;
    /* Where all taps are equal the result is theirs: uniform areas would all be in doubt. */
    __m128i same = _mm_and_si128(_mm_cmpeq_epi8(row[0], row[1]),
                                 _mm_and_si128(_mm_cmpeq_epi8(row[0], row[2]), _mm_cmpeq_epi8(row[0], row[3])));
    if ((_mm_movemask_epi8(same) & 0xfff) != 0xfff || memcmp(p, p + 3, 9)) return 1;
    memcpy(to, p, 3);
    return 0;
}

static int warp(Scratch *s, const uint8_t *in, int size, const double m[6], const uint8_t fill[3], int bilinear,
                uint8_t *out) {
    const size_t line = (size_t)size * 3, count = (size_t)size;
    uint8_t *memory = buffer_fit(&s->strip, count * (2 * 8 + 2 * 4 + 16 + 16 + 1 + 3));
    if (!memory) return -1;
    WarpRow r;
    r.x = (double *)memory, r.y = r.x + count;
    r.dx = (float *)(r.y + count), r.dy = r.dx + count;
    r.taps = (int32_t *)(r.dy + count), r.weights = (float *)(r.taps + 4 * count);
    r.full = (uint8_t *)(r.weights + 4 * count);
    uint8_t *row = r.full + count; /* padded, so that each pixel may be written as four bytes */
    for (int y = 0; y < size; y++, out += line) {
        plan_row(&r, size, m, y);
        for (int x = 0; x < size; x++) {
            uint8_t *to = row + 3 * (size_t)x;
            const double fx = r.x[x] - 0.5, fy = r.y[x] - 0.5;
            if (r.full[x] && !bilinear) {
                const uint8_t *p = in + (size_t)((int)fy - 1) * line + 3 * (size_t)((int)fx - 1);
                if (warp_pixel(p, line, r.taps + 4 * x, r.weights + 4 * x, to)) bicubic_pixel(in, size, fx, fy, to);
            } else if (!inside(r.x[x], size) || !inside(r.y[x], size)) {
                memcpy(to, fill, 3);
            } else if (bilinear) {
                bilinear_pixel(in, size, fx, fy, to);
            } else {
                bicubic_pixel(in, size, fx, fy, to);
            }
        }
        memcpy(out, row, line);
    }
    return 0;
}

/* Warp `image` in place. Returns 0, or -1 when memory ran out. */
static int apply_warp(Scratch *s, uint8_t *image, int size, const double m[6], const uint8_t fill[3], int bilinear) {
    const size_t bytes = (size_t)size * (size_t)size * 3;
    uint8_t *copy = buffer_fit(&s->copy, bytes);
    if (!copy) return -1;
    int left = 1;
    if (!bilinear && m[0] == 1 && m[3] == 0 && m[4] == 1 && m[5] == 0) {
        memcpy(copy, image, bytes);
        left = slide_across(s, copy, size, m[1], m[2], fill, image);
    } else if (!bilinear && m[0] == 1 && m[1] == 0 && m[2] == 0 && m[4] == 1) {
        if (m[3] == 0) {
            memcpy(copy, image, bytes);
            left = shift_down(s, copy, size, m[5], fill, image);
        } else {
            uint8_t *moved = buffer_fit(&s->other, bytes);
            if (!moved) return -1;
            turn(image, size, copy);
            left = slide_across(s, copy, size, m[3], m[5], fill, moved);
            turn(left ? copy : moved, size, image); /* as it was, or done */
            if (left > 0) memcpy(copy, image, bytes);
        }
    } else {
        memcpy(copy, image, bytes);
    }
    return left > 0 ? warp(s, copy, size, m, fill, bilinear, image) : left;
}

#endif
