/* One view as numbers: the packed form that Python sends, and the checks after which the kernels may trust it.
 *
 * Layout, native byte order: a ViewHead of 64 bytes, then `ops` OpSpecs of 56 bytes, and nothing else. The
 * writer is pipeline/native/packed.py. */
#ifndef VIEW_SPEC_H
#define VIEW_SPEC_H

#include <stddef.h>
#include <stdint.h>

enum {
    SPEC_LAYOUT = 1,       /* raised with every change of the two structs or of the codes below */
    MOST_OPS = 16,
    MOST_SIDE = 8192,      /* of a view */
    MOST_LENGTH = 1 << 16, /* of a side of the crop */
    MOST_RESIZED = 1 << 24,
};
#define MOST_MIDDLE ((int64_t)1 << 30) /* bytes between the two passes of a resize */
#define MOST_VALUE 1e9                 /* of an entry of a matrix: sums of a few stay finite */

enum {
    OP_AFFINE, OP_AUTO_CONTRAST, OP_EQUALIZE, OP_INVERT, OP_POSTERIZE, OP_SOLARIZE, OP_SOLARIZE_ADD, OP_COLOR,
    OP_CONTRAST, OP_BRIGHTNESS, OP_SHARPNESS, OP_GRAYSCALE, OP_BLUR, OP_COUNT
};

typedef struct {
    int32_t code, zero;
    double value[6]; /* AFFINE: Pillow's inverse matrix; others use value[0] or none; unused ones are 0 */
} OpSpec;

typedef struct {
    int32_t layout, size, left, top, width, height, resized_width, resized_height, cut_left, cut_top;
    int32_t flip, bilinear, fill[3], ops;
} ViewHead;

typedef struct {
    ViewHead head;
    OpSpec op[MOST_OPS];
} ViewSpec;

/* Copy and check the packed view of an image of width x height. Returns NULL, or what is wrong with it. */
const char *read_view(ViewSpec *view, const char *bytes, size_t length, int64_t width, int64_t height);

#endif
