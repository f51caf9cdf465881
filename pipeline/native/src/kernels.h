/* What the kernels offer: a view of an image, by one instruction set or another, always the same bytes. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "view_spec.h"

/* A decoded image: rows of `width` packed pixels of 3 bytes (or 1, grey), `pitch` bytes apart, of either sign. */
typedef struct {
    const uint8_t *pixels;
    ptrdiff_t pitch;
    int64_t width, height;
    int channels;
} Source;

typedef struct {
    uint8_t *bytes;
    size_t size;
} Buffer;

/* Memory for one thread at a time, kept from view to view: fresh pages for every view would cost as much as
 * its resize. */
typedef struct Scratch {
    struct Scratch *next;
    Buffer across, down, middle, strip, copy, other;
} Scratch;

size_t scratch_bytes(const Scratch *scratch);
void scratch_empty(Scratch *scratch);

/* Make room for `need` bytes and some padding; NULL when there is none. What was in the buffer is lost. */
uint8_t *buffer_fit(Buffer *buffer, size_t need);

/* Render `view`, which read_view has passed for this image, to `out`: size * size * 3 bytes.
 * Returns 0, or -1 when memory ran out. Touches nothing but `scratch` and `out`. */
int render_view_sse2(Scratch *scratch, const Source *source, const ViewSpec *view, uint8_t *out);
int render_view_avx2(Scratch *scratch, const Source *source, const ViewSpec *view, uint8_t *out);

#endif
