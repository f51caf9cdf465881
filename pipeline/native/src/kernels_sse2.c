/* The kernels for every x86-64 processor. */
#include "colours.h"
#include "resize.h"

int render_view_sse2(Scratch *scratch, const Source *source, const ViewSpec *view, uint8_t *out) {
    int failed = resize_view(scratch, source, &view->head, out);
    for (int i = 0; i < view->head.ops && !failed; i++) failed = apply_op(scratch, out, &view->head, &view->op[i]);
    return failed;
}
