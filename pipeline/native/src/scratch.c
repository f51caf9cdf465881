#include <stdlib.h>

#include "kernels.h"

enum { PADDING = 128 }; /* whole vectors may be read and written a little beyond the last byte */

static Buffer *nth(Scratch *s, int i) {
    Buffer *all[] = {&s->across, &s->down, &s->middle, &s->strip, &s->copy, &s->other};
    return i < 6 ? all[i] : NULL;
}

size_t scratch_bytes(const Scratch *scratch) {
    size_t sum = 0;
    for (int i = 0; nth((Scratch *)scratch, i); i++) sum += nth((Scratch *)scratch, i)->size;
    return sum;
}

void scratch_empty(Scratch *scratch) {
    for (int i = 0; nth(scratch, i); i++) {
        free(nth(scratch, i)->bytes);
        *nth(scratch, i) = (Buffer){NULL, 0};
    }
}

uint8_t *buffer_fit(Buffer *buffer, size_t need) {
    need += PADDING;
    if (buffer->size < need) {
        size_t size = need + need / 4; /* the next image is often a little larger */
        free(buffer->bytes);
        buffer->bytes = calloc(1, size);
        buffer->size = buffer->bytes ? size : 0;
    }
    return buffer->bytes;
}
