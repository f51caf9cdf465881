#include "view_spec.h"

#include <math.h>
#include <string.h>

_Static_assert(sizeof(ViewHead) == 64 && sizeof(OpSpec) == 56, "the layout has no padding");

static int within(double value, double low, double high) { return value >= low && value <= high; } /* no NaN */

static const char *check_op(const OpSpec *op) {
    const double *v = op->value;
    int used = 0;
    if (op->zero != 0) return "an op's second word is not 0";
    switch (op->code) {
    case OP_AFFINE:
        for (used = 0; used < 6; used++)
            if (!within(v[used], -MOST_VALUE, MOST_VALUE)) return "a matrix is out of range";
        break;
    case OP_AUTO_CONTRAST: case OP_EQUALIZE: case OP_INVERT: case OP_GRAYSCALE:
        break;
    case OP_POSTERIZE:
        used = 1;
        if (!within(v[0], 0, 8) || v[0] != floor(v[0])) return "posterize keeps 0 to 8 bits";
        break;
    case OP_SOLARIZE: case OP_SOLARIZE_ADD:
        used = 1;
        if (!within(v[0], 0, 256) || v[0] != floor(v[0])) return "a level is not an integer of 0..256";
        break;
    case OP_COLOR: case OP_CONTRAST: case OP_BRIGHTNESS: case OP_SHARPNESS:
        used = 1;
        if (!within(v[0], -1e6, 1e6)) return "a factor is out of range";
        break;
    case OP_BLUR:
        used = 1;
        if (!within(v[0], 0, 1000)) return "a blur is out of range";
        break;
    default:
        return "unknown op";
    }
    for (; used < 6; used++)
        if (v[used] != 0) return "an unused value is not 0";
    return NULL;
}

static const char *check_head(const ViewHead *h, int64_t width, int64_t height) {
    if (h->layout != SPEC_LAYOUT) return "another layout";
    if (h->size < 1 || h->size > MOST_SIDE) return "size is out of range";
    if (h->width < 1 || h->width > MOST_LENGTH || h->height < 1 || h->height > MOST_LENGTH)
        return "crop is out of range";
    if (h->left < 0 || h->top < 0 || h->left > width - h->width || h->top > height - h->height)
        return "crop leaves the image";
    if (h->resized_width < 1 || h->resized_width > MOST_RESIZED || h->resized_height < 1 ||
        h->resized_height > MOST_RESIZED)
        return "resized is out of range";
    if (h->cut_left < 0 || h->cut_top < 0 || h->cut_left > h->resized_width - h->size ||
        h->cut_top > h->resized_height - h->size)
        return "cut leaves the resized crop";
    if (h->flip < 0 || h->flip > 1 || h->bilinear < 0 || h->bilinear > 1) return "a switch is not 0 or 1";
    for (int c = 0; c < 3; c++)
        if (h->fill[c] < 0 || h->fill[c] > 255) return "fill is no colour";
    if ((int64_t)h->height * h->size * 3 > MOST_MIDDLE) return "crop is too large";
    return NULL;
}

const char *read_view(ViewSpec *view, const char *bytes, size_t length, int64_t width, int64_t height) {
    if (length < sizeof view->head) return "shorter than its head";
    memcpy(&view->head, bytes, sizeof view->head);
    if (view->head.ops < 0 || view->head.ops > MOST_OPS) return "too many ops";
    size_t ops = (size_t)view->head.ops * sizeof *view->op;
    if (length != sizeof view->head + ops) return "length and number of ops disagree";
    memcpy(view->op, bytes + sizeof view->head, ops);
    const char *wrong = check_head(&view->head, width, height);
    for (int i = 0; i < view->head.ops && !wrong; i++) wrong = check_op(&view->op[i]);
    return wrong;
}
