/* Shears along one axis and shifts of a square view: Pillow's bicubic warp, where only one fraction is not zero.
 *
 * All that counts is between which integers a value lies. A fixed-point sum decides it nearly always; within NEAR of
 * an integer the doubles are computed as Pillow does. */
#ifndef SLIDES_H
#define SLIDES_H

#include "interpolate.h"
#include "kernels.h"

/* Four weights rounded to 22 bits, which still sum to one, are wrong by 6 * 2^-23 together; times 255 that is less
 * than 2^10 of 2^22. Four times as much is taken for doubtful. */
enum { NEAR = 1 << 12, BELOW_ONE = (1 << FRACTION) - 1 };

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
    const Lanes margin = lanes_set32(NEAR), below = lanes_set32(BELOW_ONE), limit = lanes_set32(2 * NEAR);
    Lanes w[4];
    for (int i = 0; i < 4; i++)
        w[i] = lanes_above32(limit, lanes_and(lanes_add32(s->sum[i], margin), below));
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
    const Lanes second = lanes_equal8(first, lanes_load(p + step));
    const Lanes third = lanes_equal8(first, lanes_load(p + 2 * step));
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

#endif
