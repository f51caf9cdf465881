/* Geometric ops on a square view: Pillow's Image.transform with the inverse matrix, in its double precision.
 *
 * Pillow interpolates with bicubic a = -1 (a resize uses -0.5) or bilinearly, clamps taps to the image, cuts the
 * result off towards zero and clips it. What would fall outside gets the fill colour.
 *
 * Where all that counts is on which side of an integer a value lies, a fixed-point sum decides it nearly always;
 * within NEAR of an integer the doubles are computed as Pillow does. */
#ifndef WARPS_H
#define WARPS_H

#include "kernels.h"
#include "lanes.h"

/* Four weights rounded to 22 bits, which still sum to one, are wrong by 6 * 2^-23 together; times 255 that is less
 * than 2^10 of 2^22. Four times as much is taken for doubtful. */
enum { NEAR = 1 << 12, BELOW_ONE = (1 << FRACTION) - 1 };

/* ---- Pillow's arithmetic, as it is written there */

INLINE double cubic(double a, double b, double c, double d, double f) {
    const double p2 = -a + c, p3 = 2 * (a - b) + c - d, p4 = -a + b - c + d;
    return b + f * (p2 + f * (p3 + f * p4));
}

INLINE uint8_t cut_off(double value) { return value <= 0.0 ? 0 : value >= 255.0 ? 255 : (uint8_t)value; }

/* Where output pixel (x, y) is read: `px`, `py` are x + 0.5, y + 0.5. */
INLINE double place(const double m[3], double px, double py) { return m[0] * px + m[1] * py + m[2]; }

INLINE int inside(double at, int size) { return at >= 0.0 && at < size; }

INLINE int whole(double at) { return at < 0.0 ? -1 : (int)at; } /* floor, for -0.5 <= at */

static void bicubic_pixel(const uint8_t *in, int size, double fx, double fy, uint8_t *to) {
    const int ix = whole(fx), iy = whole(fy);
    const double dx = fx - ix, dy = fy - iy;
    const uint8_t *row[4];
    int at[4];
    for (int k = 0; k < 4; k++) {
        row[k] = in + (size_t)clamp(iy - 1 + k, size) * (size_t)size * 3;
        at[k] = clamp(ix - 1 + k, size) * 3;
    }
    for (int c = 0; c < 3; c++) {
        double v[4];
        for (int k = 0; k < 4; k++)
            v[k] = cubic(row[k][at[0] + c], row[k][at[1] + c], row[k][at[2] + c], row[k][at[3] + c], dx);
        to[c] = cut_off(cubic(v[0], v[1], v[2], v[3], dy));
    }
}

INLINE Double4 pixel_at(const uint8_t *p) { /* reads four bytes */
    int32_t bytes;
    memcpy(&bytes, p, 4);
    const __m128i zero = _mm_setzero_si128();
    const __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero);
    return __builtin_convertvector((Int4)_mm_unpacklo_epi16(words, zero), Double4);
}

static void bilinear_pixel(const uint8_t *in, int size, double fx, double fy, uint8_t *to) {
    const int ix = whole(fx), iy = whole(fy);
    const double dx = fx - ix, dy = fy - iy;
    const uint8_t *up = in + (size_t)clamp(iy, size) * (size_t)size * 3;
    const uint8_t *low = in + (size_t)clamp(iy + 1, size) * (size_t)size * 3;
    const int a = clamp(ix, size) * 3, b = clamp(ix + 1, size) * 3;
    const Double4 above = pixel_at(up + a) + (pixel_at(up + b) - pixel_at(up + a)) * dx;
    const Double4 below = pixel_at(low + a) + (pixel_at(low + b) - pixel_at(low + a)) * dx;
    const Int4 value = __builtin_convertvector(above + (below - above) * dy, Int4); /* cut off; between the taps */
    for (int c = 0; c < 3; c++) to[c] = (uint8_t)value[c];
}

/* ---- fixed point */

/* The four bicubic weights of a fraction, a = -1, rounded to 22 bits; low and high part of each pair. */
INLINE void cubic_taps(double f, TapPair taps[2]) {
    const double square = f * f, cube = square * f, one = (double)(1 << FRACTION);
    int32_t w[4];
    w[0] = (int32_t)lrint((-f + 2 * square - cube) * one);
    w[2] = (int32_t)lrint((f + square - cube) * one);
    w[3] = (int32_t)lrint((cube - square) * one);
    w[1] = (1 << FRACTION) - w[0] - w[2] - w[3];
    taps[0] = tap_pair(w[0], w[1]), taps[1] = tap_pair(w[2], w[3]);
}

/* One bit a byte: sums so close to an integer that the doubles must decide. */
INLINE uint32_t doubtful(const Sums *s) {
    const Lanes near_ = lanes_set32(NEAR), below = lanes_set32(BELOW_ONE), limit = lanes_set32(2 * NEAR);
    Lanes w[4];
    for (int i = 0; i < 4; i++)
        w[i] = lanes_above32(limit, lanes_and(lanes_add32(s->sum[i], near_), below));
    return lanes_mask8(lanes_pack16(lanes_pack32(w[0], w[1]), lanes_pack32(w[2], w[3])));
}

/* LANES bytes from four taps `step` bytes apart, first one at p. Returns a bit for each byte left in doubt; where
 * the taps are all equal there is none, as the weights sum to exactly one. */
INLINE uint32_t slide_lanes(const uint8_t *p, ptrdiff_t step, const TapPair taps[2], uint8_t *to) {
    const Sums sums = sum_taps(p, step, taps, 2, 0);
    lanes_store(to, sums_to_bytes(&sums));
    const uint32_t doubt = doubtful(&sums);
    if (!doubt) return 0;
    const Lanes first = lanes_load(p);
    const Lanes second = lanes_equal8(first, lanes_load(p + step)), third = lanes_equal8(first, lanes_load(p + 2 * step));
    const Lanes fourth = lanes_equal8(first, lanes_load(p + 3 * step));
    return doubt & ~lanes_mask8(lanes_and(second, lanes_and(third, fourth)));
}

/* ---- shears and shifts along x: whole rows move, all by one fraction.
 *
 * A row is read at x + along + shift. Returns 0, or 1 when a rounding crosses a pixel border within the row, so
 * that it does not move as a whole. `row` has two pixels more at each end, `to` is padded. */
INLINE double slid(int x, double along, double shift) { return (x + 0.5) + along + shift; }

static int slide_row(const uint8_t *row, int size, double along, double shift, const uint8_t *fill_row, uint8_t *to) {
    int first = 0, stop = size;
    memcpy(to, fill_row, (size_t)size * 3);
    /* The place grows with x, so both ends are found by looking at a few pixels. */
    const double off = along + shift;
    if (off < -size - 2.0 || off > size + 2.0) return 0;
    first = clamp((int)floor(-off - 0.5) - 2, size), stop = clamp((int)ceil(size - off - 0.5) + 2, size + 1);
    while (first < stop && slid(first, along, shift) < 0.0) first++;
    while (stop > first && !(slid(stop - 1, along, shift) < size)) stop--;
    if (first >= stop) return 0;
    const double at = slid(first, along, shift) - 0.5, fraction = at - floor(at);
    const int move = whole(at) - first;
    if (fraction < 1e-6 || fraction > 1 - 1e-6) /* a sum of a few hundred is rounded by less than 1e-12 */
        for (int x = first; x < stop; x++)
            if (whole(slid(x, along, shift) - 0.5) - x != move) return 1;
    TapPair taps[2];
    cubic_taps(fraction, taps);
    const uint8_t *p = row + (ptrdiff_t)(move - 1) * 3; /* first tap of x = 0 */
    for (int i = 3 * first; i < 3 * stop; i += LANES)
        for (uint32_t doubt = slide_lanes(p + i, 3, taps, to + i); doubt; doubt &= doubt - 1) {
            const int j = i + __builtin_ctz(doubt), x = j / 3;
            if (j >= 3 * stop) break;
            const double f = slid(x, along, shift) - 0.5 - (x + move);
            to[j] = cut_off(cubic(p[j], p[j + 3], p[j + 6], p[j + 9], f));
        }
    if (stop < size) memcpy(to + 3 * stop, fill_row + 3 * stop, (size_t)(size - stop) * 3);
    return 0;
}

/* `in` and `out` must not overlap. Returns 0, 1: use `warp`, or -1: no memory. */
static int slide_across(Scratch *s, const uint8_t *in, int size, double slope, double shift, const uint8_t fill[3],
                        uint8_t *out) {
    const size_t line = (size_t)size * 3;
    uint8_t *memory = buffer_fit(&s->strip, 3 * line + 24 + 4 * LANES);
    if (!memory) return -1;
    uint8_t *row = memory + 6, *fill_row = row + line + 6 + LANES, *to = fill_row + line + LANES;
    for (size_t x = 0; x < line; x++) fill_row[x] = fill[x % 3];
    for (int y = 0; y < size; y++, in += line, out += line) {
        memcpy(row, in, line);
        for (int k = 1; k <= 2; k++) memcpy(row - 3 * k, in, 3), memcpy(row + line + 3 * (k - 1), in + line - 3, 3);
        if (slide_row(row, size, slope * (y + 0.5), shift, fill_row, to)) return 1;
        memcpy(out, to, line);
    }
    return 0;
}

/* A shift along y: the same four rows for a whole row. Returns as slide_across. */
static int shift_down(Scratch *s, const uint8_t *in, int size, double shift, const uint8_t fill[3], uint8_t *out) {
    const size_t line = (size_t)size * 3;
    uint8_t *taken = buffer_fit(&s->strip, 5 * (line + LANES));
    if (!taken) return -1;
    const ptrdiff_t step = (ptrdiff_t)(line + LANES);
    uint8_t *to = taken + 4 * step;
    for (int y = 0; y < size; y++, out += line) {
        const double at = slid(y, 0.0, shift);
        if (!inside(at, size)) {
            for (size_t x = 0; x < line; x++) out[x] = fill[x % 3];
            continue;
        }
        const int iy = whole(at - 0.5);
        const double f = at - 0.5 - iy;
        for (int k = 0; k < 4; k++) memcpy(taken + k * step, in + (size_t)clamp(iy - 1 + k, size) * line, line);
        TapPair taps[2];
        cubic_taps(f, taps);
        for (size_t x = 0; x < line; x += LANES)
            for (uint32_t doubt = slide_lanes(taken + x, step, taps, to + x); doubt; doubt &= doubt - 1) {
                const size_t i = x + (size_t)__builtin_ctz(doubt);
                const uint8_t *p = taken + i;
                to[i] = cut_off(cubic(p[0], p[step], p[2 * step], p[3 * step], f));
            }
        memcpy(out, to, line);
    }
    return 0;
}

/* Transpose pixels, in tiles: 4 bytes a pixel, as the fourth is overwritten by the next one of the row. */
static void turn(const uint8_t *in, int size, uint8_t *out) {
    enum { TILE = 16 };
    const size_t line = (size_t)size * 3;
    for (int y0 = 0; y0 < size; y0 += TILE)
        for (int x0 = 0; x0 < size; x0 += TILE)
            for (int y = y0; y < y0 + TILE && y < size; y++) {
                const uint8_t *from = in + (size_t)x0 * line + 3 * (size_t)y;
                uint8_t *to = out + (size_t)y * line + 3 * (size_t)x0;
                const int stop = x0 + TILE < size ? x0 + TILE : size - 1;
                for (int x = x0; x < stop; x++, from += line, to += 3) memcpy(to, from, 4);
                if (stop == size - 1) memcpy(to, from, 3);
            }
}

/* ---- any matrix: bicubic pixels whose 4 x 4 taps are all in the image, in fixed point along x (22 bits) and in
 * single precision along y (16 bits are kept). Weights are wrong by less than 2^-21, sums of floats by 6 * 2^-24 of
 * their terms, together less than 77 of 2^16; 128 are taken for doubtful. */
enum { WARP_KEPT = 16, WARP_NEAR = 128, ROW_PARTS = 10 };

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
    const __m128 whole_ = _mm_hadd_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
#else
    const __m128i zero = _mm_setzero_si128();
    const __m128i low[2] = {_mm_set1_epi32(taps[0]), _mm_set1_epi32(taps[1])};
    const __m128i high[2] = {_mm_set1_epi32(taps[2]), _mm_set1_epi32(taps[3])};
    __m128 whole_ = _mm_setzero_ps();
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
        whole_ = _mm_add_ps(whole_, _mm_mul_ps(_mm_cvtepi32_ps(across), _mm_set1_ps(weights[k])));
        row[k] = _mm_loadu_si128((const __m128i *)from);
    }
#endif
    const __m128i value = _mm_cvttps_epi32(whole_);
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
