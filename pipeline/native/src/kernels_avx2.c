/* The same kernels for processors with AVX2. setuptools has no flags per file, so the source says it. */
#define VIEWS_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#include "colours.h"
#include "resize.h"

int render_view_avx2(Scratch *scratch, const Source *source, const ViewSpec *view, uint8_t *out) {
    int failed = resize_view(scratch, source, &view->head, out);
    for (int i = 0; i < view->head.ops && !failed; i++) failed = apply_op(scratch, out, &view->head, &view->op[i]);
    return failed;
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
