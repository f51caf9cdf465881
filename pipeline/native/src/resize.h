/* Crop, resize, cut and flip in one go: Pillow's `resize` of whole bytes, first along x, then along y.
 *
 * Only the rows and columns of the cut are computed. Coefficients are made in double precision and rounded to
 * 22 fractional bits as Pillow makes them; the sums are integers and therefore exact in any order. */
#ifndef RESIZE_H
#define RESIZE_H

#include "kernels.h"
#include "lanes.h"

typedef struct {
    int start, pairs; /* first pixel; taps are read two by two */
    const TapPair *taps;
} Window;

INLINE double bicubic_weight(double x) { /* a = -0.5; grouped as in Pillow, as every rounding counts */
    x = x < 0.0 ? -x : x;
    if (x < 1.0) return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0.0;
}

INLINE double bilinear_weight(double x) {
    x = x < 0.0 ? -x : x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* The windows of outputs first .. first + count - 1 of a resize of `from` pixels to `to`. With `even`, windows
 * start at an even pixel, if need be with a tap of weight zero. Returns NULL when memory ran out. */
static Window *make_windows(Buffer *buffer, int from, int to, int first, int count, int bilinear, int even) {
    const double scale = (double)from / to, stretch = scale < 1.0 ? 1.0 : scale;
    const double support = (bilinear ? 1.0 : 2.0) * stretch, inverse = 1.0 / stretch;
    const size_t most = (size_t)ceil(support) * 2 + 1, most_pairs = most / 2 + 1;
    const size_t head = sizeof(Window) * (size_t)count, body = sizeof(TapPair) * most_pairs * (size_t)count;
    uint8_t *memory = buffer_fit(buffer, head + body + sizeof(double) * most);
    if (!memory) return NULL;
    Window *windows = (Window *)memory;
    TapPair *taps = (TapPair *)(memory + head);
    double *weight = (double *)(memory + head + body);
    for (int i = 0; i < count; i++, taps += most_pairs) {
        const double centre = (first + i + 0.5) * scale;
        int start = (int)(centre - support + 0.5), stop = (int)(centre + support + 0.5);
        if (start < 0) start = 0;
        if (stop > from) stop = from;
        double sum = 0.0;
        for (int x = start; x < stop; x++) {
            const double at = (x - centre + 0.5) * inverse;
            sum += weight[x - start] = bilinear ? bilinear_weight(at) : bicubic_weight(at);
        }
        const int lead = even ? start & 1 : 0;
        int32_t pair[2] = {0, 0};
        int place = lead;
        for (int x = start; x < stop; x++, place++) {
            const double share = sum != 0.0 ? weight[x - start] / sum : weight[x - start];
            pair[place & 1] = (int32_t)((share < 0 ? -0.5 : 0.5) + share * (1 << FRACTION));
            if (place & 1) taps[place / 2] = tap_pair(pair[0], pair[1]);
        }
        if (place & 1) taps[place / 2] = tap_pair(pair[0], 0);
        windows[i] = (Window){start - lead, (place + 1) / 2, taps};
    }
    return windows;
}

/* Four rows, interleaved two pixels at a time: R R' G G' B B' x x for row 0, the same for rows 1 to 3, 32 bytes. */
INLINE void interleave(const uint8_t *const row[4], int width, uint8_t *strip) {
    const int64_t bytes = 3 * (int64_t)width;
    for (int r = 0; r < 4; r++) {
        uint8_t *to = strip + 8 * r;
        int64_t at = 0;
        for (; at + 8 <= bytes; at += 6, to += 32) {
            const __m128i two = _mm_loadl_epi64((const __m128i *)(row[r] + at));
            _mm_storel_epi64((__m128i *)to, _mm_unpacklo_epi8(two, _mm_srli_epi64(two, 24)));
        }
        for (; at < bytes; at += 6, to += 32) { /* nothing is read beyond the row */
            uint8_t last[8] = {0};
            memcpy(last, row[r] + at, (size_t)(bytes - at < 6 ? bytes - at : 6));
            const __m128i two = _mm_loadl_epi64((const __m128i *)last);
            _mm_storel_epi64((__m128i *)to, _mm_unpacklo_epi8(two, _mm_srli_epi64(two, 24)));
        }
    }
}

/* One output pixel of four rows: four bytes of R, G, B and rubbish each. */
INLINE void across_pixel(const uint8_t *strip, const Window *w, int32_t pixel[4]) {
    const uint8_t *p = strip + (size_t)w->start * 16;
#ifdef VIEWS_AVX2
    __m256i low0 = _mm256_set1_epi32(1 << (FRACTION - 1)), low1 = low0, high0 = lanes_zero(), high1 = high0;
    for (int j = 0; j < w->pairs; j++, p += 32) {
        const __m256i k = lanes_set32(w->taps[j].low), l = lanes_set32(w->taps[j].high);
        const __m256i a = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
        const __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)));
        low0 = lanes_add32(low0, lanes_madd16(a, k)), high0 = lanes_add32(high0, lanes_madd16(a, l));
        low1 = lanes_add32(low1, lanes_madd16(b, k)), high1 = lanes_add32(high1, lanes_madd16(b, l));
    }
    low0 = lanes_down32(lanes_add32(lanes_up32(high0, SPLIT), low0), FRACTION);
    low1 = lanes_down32(lanes_add32(lanes_up32(high1, SPLIT), low1), FRACTION);
    __m256i words = lanes_pack32(low0, low1); /* rows 0, 2 in the lower half, 1, 3 in the upper */
    words = lanes_packu16(words, words);
    const __m128i even = _mm256_castsi256_si128(words), odd = _mm256_extracti128_si256(words, 1);
    pixel[0] = _mm_cvtsi128_si32(even), pixel[1] = _mm_cvtsi128_si32(odd);
    pixel[2] = _mm_cvtsi128_si32(_mm_srli_si128(even, 4)), pixel[3] = _mm_cvtsi128_si32(_mm_srli_si128(odd, 4));
#else
    const __m128i zero = _mm_setzero_si128();
    __m128i low[4], high[4];
    for (int r = 0; r < 4; r++) low[r] = _mm_set1_epi32(1 << (FRACTION - 1)), high[r] = zero;
    for (int j = 0; j < w->pairs; j++, p += 32) {
        const __m128i k = _mm_set1_epi32(w->taps[j].low), l = _mm_set1_epi32(w->taps[j].high);
        const __m128i a = _mm_loadu_si128((const __m128i *)p), b = _mm_loadu_si128((const __m128i *)(p + 16));
        const __m128i words[4] = {_mm_unpacklo_epi8(a, zero), _mm_unpackhi_epi8(a, zero),
                                  _mm_unpacklo_epi8(b, zero), _mm_unpackhi_epi8(b, zero)};
        for (int r = 0; r < 4; r++) {
            low[r] = _mm_add_epi32(low[r], _mm_madd_epi16(words[r], k));
            high[r] = _mm_add_epi32(high[r], _mm_madd_epi16(words[r], l));
        }
    }
    for (int r = 0; r < 4; r++)
        low[r] = _mm_srai_epi32(_mm_add_epi32(_mm_slli_epi32(high[r], SPLIT), low[r]), FRACTION);
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(low[0], low[1]), _mm_packs_epi32(low[2], low[3]));
    _mm_storeu_si128((__m128i *)pixel, bytes);
#endif
}

/* The horizontal pass: `rows` rows to `middle`, rows of `stride` bytes. */
static int resize_across(Scratch *s, const Source *part, int rows, const Window *windows, int size, int flip,
                         uint8_t *middle, size_t stride) {
    const int width = (int)part->width, grey = part->channels == 1;
    const size_t line = (size_t)width * 3;
    uint8_t *strip = buffer_fit(&s->strip, (size_t)(width + 2) * 16);
    uint8_t *colour = grey ? buffer_fit(&s->copy, 4 * line) : NULL;
    if (!strip || (grey && !colour)) return -1;
    for (int y = 0; y < rows; y += 4) {
        const int here = rows - y < 4 ? rows - y : 4;
        const uint8_t *row[4];
        for (int r = 0; r < 4; r++) {
            row[r] = part->pixels + (ptrdiff_t)(y + (r < here ? r : 0)) * part->pitch;
            if (!grey) continue;
            uint8_t *to = colour + (size_t)r * line;
            for (int x = 0; x < width; x++) to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = row[r][x];
            row[r] = to;
        }
        interleave(row, width, strip);
        uint8_t *to = middle + (size_t)y * stride;
        for (int x = 0; x < size; x++) { /* ascending: the fourth byte is overwritten by the next pixel */
            int32_t pixel[4];
            across_pixel(strip, &windows[flip ? size - 1 - x : x], pixel);
            for (int r = 0; r < here; r++) memcpy(to + (size_t)r * stride + 3 * x, &pixel[r], 4);
        }
    }
    return 0;
}

/* The vertical pass: rows of `middle` to `out`, rows of `line` bytes. */
static void resize_down(const uint8_t *middle, size_t stride, int above, const Window *windows, int size,
                        uint8_t *out) {
    const size_t line = (size_t)size * 3;
    for (int y = 0; y < size; y++, out += line) {
        const Window *w = &windows[y];
        const uint8_t *p = middle + (size_t)(w->start - above) * stride;
        size_t x = 0;
        for (; x + LANES <= line; x += LANES) {
            const Sums sums = sum_taps(p + x, (ptrdiff_t)stride, w->taps, w->pairs, 1 << (FRACTION - 1));
            lanes_store(out + x, sums_to_bytes(&sums));
        }
        if (x < line) { /* rows of `middle` are padded, `out` is not */
            uint8_t last[LANES];
            const Sums sums = sum_taps(p + x, (ptrdiff_t)stride, w->taps, w->pairs, 1 << (FRACTION - 1));
            lanes_store(last, sums_to_bytes(&sums));
            memcpy(out + x, last, line - x);
        }
    }
}

INLINE void copy_pixels(const uint8_t *from, int channels, int flip, int count, uint8_t *to) {
    if (channels == 3 && !flip) {
        memcpy(to, from, 3 * (size_t)count);
        return;
    }
    for (int x = 0; x < count; x++) {
        const uint8_t *p = from + (ptrdiff_t)(flip ? count - 1 - x : x) * channels;
        to[3 * x] = p[0], to[3 * x + 1] = p[channels / 2], to[3 * x + 2] = p[channels - 1];
    }
}

/* Crop, resize, cut and flip to `out`, size x size x 3. */
static int resize_view(Scratch *s, const Source *source, const ViewHead *v, uint8_t *out) {
    Source part = *source;
    part.pixels += (ptrdiff_t)v->top * source->pitch + (ptrdiff_t)v->left * source->channels;
    part.width = v->width, part.height = v->height;
    if (v->width == v->resized_width && v->height == v->resized_height) {
        for (int y = 0; y < v->size; y++)
            copy_pixels(part.pixels + (ptrdiff_t)(v->cut_top + y) * part.pitch + (ptrdiff_t)v->cut_left * part.channels,
                        part.channels, v->flip, v->size, out + (size_t)y * (size_t)v->size * 3);
        return 0;
    }
    const Window *across = make_windows(&s->across, v->width, v->resized_width, v->cut_left, v->size, v->bilinear, 1);
    const Window *down = make_windows(&s->down, v->height, v->resized_height, v->cut_top, v->size, v->bilinear, 0);
    if (!across || !down) return -1;
    /* Only the rows that the vertical pass reads; a lone last tap may reach one row further, with weight zero. */
    const int above = down[0].start;
    int below = down[v->size - 1].start + 2 * down[v->size - 1].pairs;
    if (below > v->height) below = v->height;
    const size_t stride = ((size_t)v->size * 3 + 2 * LANES) / LANES * LANES;
    uint8_t *middle = buffer_fit(&s->middle, (size_t)(below - above + 2) * stride);
    if (!middle) return -1;
    part.pixels += (ptrdiff_t)above * part.pitch;
    part.height = below - above;
    if (resize_across(s, &part, below - above, across, v->size, v->flip, middle, stride)) return -1;
    resize_down(middle, stride, above, down, v->size, out);
    return 0;
}

#endif
