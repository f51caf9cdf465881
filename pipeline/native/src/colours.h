/* Ops that leave pixels in place: ImageOps, ImageEnhance, the SMOOTH filter and the Gaussian blur of Pillow. */
#ifndef COLOURS_H
#define COLOURS_H

#include "kernels.h"
#include "lanes.h"
#include "warps.h"

typedef uint8_t Table[3][256];

INLINE int luma(const uint8_t *p) { return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16; }

/* Image.blend: one product and one sum in single precision, each rounded, cut off and clipped. */
INLINE uint8_t blend(int from, int to, float share) {
    const float value = (float)from + share * (float)(to - from);
    return value <= 0.0f ? 0 : value >= 255.0f ? 255 : (uint8_t)value;
}

static void histogram(const uint8_t *image, int count, int counts[3][256]) {
    int odd[3][256]; /* two sets, as equal neighbours would wait for each other */
    memset(odd, 0, sizeof odd);
    memset(counts, 0, sizeof odd);
    for (; count >= 2; count -= 2, image += 6)
        for (int c = 0; c < 3; c++) counts[c][image[c]]++, odd[c][image[3 + c]]++;
    for (int c = 0; c < 3; c++) {
        if (count) counts[c][image[c]]++;
        for (int i = 0; i < 256; i++) counts[c][i] += odd[c][i];
    }
}

static void look_up(uint8_t *image, int count, Table table) {
    for (int i = 0; i < count; i++, image += 3)
        image[0] = table[0][image[0]], image[1] = table[1][image[1]], image[2] = table[2][image[2]];
}

/* The table of ImageOps.autocontrast without a cutoff. */
static void stretch_table(const int counts[256], uint8_t table[256]) {
    int low = 0, high = 255;
    while (low < 255 && !counts[low]) low++;
    while (high > 0 && !counts[high]) high--;
    const double scale = high > low ? 255.0 / (high - low) : 1.0, offset = high > low ? -low * scale : 0.0;
    for (int i = 0; i < 256; i++) table[i] = to_byte((int)(i * scale + offset));
}

/* The table of ImageOps.equalize. */
static void equal_table(const int counts[256], uint8_t table[256]) {
    int kinds = 0, last = 0, sum = 0;
    for (int i = 0; i < 256; i++)
        if (counts[i]) kinds++, last = counts[i], sum += last;
    const int step = kinds > 1 ? (sum - last) / 255 : 0;
    int level = step / 2;
    for (int i = 0; i < 256; level += counts[i], i++) table[i] = step ? to_byte(level / step) : (uint8_t)i;
}

static void by_histogram(uint8_t *image, int count, int equal) {
    int counts[3][256];
    Table table;
    histogram(image, count, counts);
    for (int c = 0; c < 3; c++) (equal ? equal_table : stretch_table)(counts[c], table[c]);
    look_up(image, count, table);
}

static void apply_level(uint8_t *image, int bytes, int code, int level) {
    switch (code) {
    case OP_INVERT:
        for (int i = 0; i < bytes; i++) image[i] = 255 - image[i];
        break;
    case OP_POSTERIZE: { /* 0 bits is black */
        const uint8_t mask = (uint8_t)(256 - (1 << (8 - level)));
        for (int i = 0; i < bytes; i++) image[i] &= mask;
        break;
    }
    case OP_SOLARIZE:
        for (int i = 0; i < bytes; i++) image[i] = image[i] < level ? image[i] : 255 - image[i];
        break;
    default: /* OP_SOLARIZE_ADD */
        for (int i = 0; i < bytes; i++) {
            const int more = image[i] + level;
            image[i] = image[i] >= 128 ? image[i] : more > 255 ? 255 : (uint8_t)more;
        }
    }
}

/* Towards the mean grey (contrast) or black (brightness). */
static void blend_with_one(uint8_t *image, int count, int contrast, float share) {
    int64_t sum = 0;
    if (contrast)
        for (int i = 0; i < count; i++) sum += luma(image + 3 * (size_t)i);
    const int level = (int)((double)sum / count + 0.5);
    Table table;
    for (int i = 0; i < 256; i++) table[0][i] = table[1][i] = table[2][i] = blend(level, i, share);
    look_up(image, count, table);
}

static void blend_with_grey(uint8_t *image, int count, float share) {
    for (int i = 0; i < count; i++, image += 3) {
        const int grey = luma(image);
        for (int c = 0; c < 3; c++) image[c] = blend(grey, image[c], share);
    }
}

static void make_grey(uint8_t *image, int count) {
    for (int i = 0; i < count; i++, image += 3) image[0] = image[1] = image[2] = (uint8_t)luma(image);
}

/* Towards SMOOTH, (sum of the nine + 4 x the middle) / 13 rounded. Pillow adds floats, which cannot tie, as 13 is
 * odd. The border stays as it is. */
static int sharpen(Scratch *s, uint8_t *image, int size, float share) {
    const size_t line = (size_t)size * 3;
    uint8_t *copy = buffer_fit(&s->copy, line * (size_t)size);
    if (!copy) return -1;
    memcpy(copy, image, line * (size_t)size);
    for (int y = 1; y < size - 1; y++) {
        const uint8_t *row = copy + (size_t)y * line, *up = row - line, *low = row + line;
        uint8_t *to = image + (size_t)y * line;
        for (size_t x = 3; x < line - 3; x++) {
            const int sum = up[x - 3] + up[x] + up[x + 3] + row[x - 3] + 5 * row[x] + row[x + 3] + low[x - 3] + low[x] +
                            low[x + 3];
            to[x] = blend((2 * sum + 13) / 26, row[x], share);
        }
    }
    return 0;
}

/* One box blur along y: Pillow's BoxBlur.c, 24 fractional bits. `sums` has a place for each byte of a row. */
static void box_down(const uint8_t *in, int size, float radius, uint32_t *restrict sums, uint8_t *out) {
    const int reach = (int)radius, line = size * 3;
    const uint32_t weight = (uint32_t)((float)(1 << 24) / (radius * 2 + 1));
    const uint32_t edge = ((1 << 24) - ((uint32_t)reach * 2 + 1) * weight) / 2;
#define ROW(y) (in + (size_t)clamp(y, size) * (size_t)line)
    for (int i = 0; i < line; i++) sums[i] = in[i] * ((uint32_t)reach + 1);
    for (int y = 0; y < reach; y++) {
        const uint8_t *row = ROW(y);
        for (int i = 0; i < line; i++) sums[i] += row[i];
    }
    for (int y = 0; y < size; y++) {
        const uint8_t *gone = ROW(y - reach - 1), *come = ROW(y + reach), *next = ROW(y + reach + 1);
        uint8_t *restrict to = out + (size_t)y * (size_t)line;
        for (int i = 0; i < line; i++) {
            sums[i] += (uint32_t)come[i] - gone[i];
            to[i] = (uint8_t)((sums[i] * weight + (uint32_t)(gone[i] + next[i]) * edge + (1 << 23)) >> 24);
        }
    }
#undef ROW
}

/* ImageFilter.GaussianBlur: three box blurs along x, then three along y. */
static int blur(Scratch *s, uint8_t *image, int size, float sigma) {
    /* Float and double are mixed on purpose, as there. */
    const float variance = sigma * sigma / 3, length = (float)sqrt(12.0 * variance + 1.0);
    const float inner = (float)floor((length - 1.0) / 2.0);
    float part = (2 * inner + 1) * (inner * (inner + 1) - 3 * variance);
    part /= 6 * (variance - (inner + 1) * (inner + 1));
    const float radius = inner + part;
    if (radius == 0) return 0;
    uint8_t *other = buffer_fit(&s->copy, (size_t)size * (size_t)size * 3);
    uint32_t *sums = (uint32_t *)buffer_fit(&s->strip, (size_t)size * 3 * sizeof *sums);
    if (!other || !sums) return -1;
    for (int side = 0; side < 2; side++) {
        turn(image, size, other);
        box_down(other, size, radius, sums, image);
        box_down(image, size, radius, sums, other);
        box_down(other, size, radius, sums, image);
    }
    return 0;
}

/* Apply one op to a view in place. Returns 0, or -1 when memory ran out. */
static int apply_op(Scratch *s, uint8_t *image, const ViewHead *v, const OpSpec *op) {
    const int size = v->size, count = size * size;
    const uint8_t fill[3] = {(uint8_t)v->fill[0], (uint8_t)v->fill[1], (uint8_t)v->fill[2]};
    const float share = (float)op->value[0];
    switch (op->code) {
    case OP_AFFINE: return apply_warp(s, image, size, op->value, fill, v->bilinear);
    case OP_AUTO_CONTRAST: by_histogram(image, count, 0); return 0;
    case OP_EQUALIZE: by_histogram(image, count, 1); return 0;
    case OP_INVERT: case OP_POSTERIZE: case OP_SOLARIZE: case OP_SOLARIZE_ADD:
        apply_level(image, 3 * count, op->code, (int)op->value[0]);
        return 0;
    case OP_COLOR: blend_with_grey(image, count, share); return 0;
    case OP_CONTRAST: case OP_BRIGHTNESS: blend_with_one(image, count, op->code == OP_CONTRAST, share); return 0;
    case OP_SHARPNESS: return sharpen(s, image, size, share);
    case OP_GRAYSCALE: make_grey(image, count); return 0;
    default: return blur(s, image, size, share);
    }
}

#endif
