/* Pillow's bicubic (a = -1; a resize uses -0.5) and bilinear interpolation of one pixel, as it is written there: in
 * doubles, taps clamped to the image, the result cut off towards zero and clipped. */
#ifndef INTERPOLATE_H
#define INTERPOLATE_H

#include "lanes.h"

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

#endif
