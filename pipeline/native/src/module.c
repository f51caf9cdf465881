/* deit_pipe.pipeline.native._views: the Python face of the kernels.
 *
 * Everything that comes from Python is checked here or in view_spec.c before a kernel sees it. The limited API of
 * Python 3.11, so that one build serves every later version. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

typedef int (*Render)(Scratch *, const Source *, const ViewSpec *, uint8_t *);

enum { MOST_VIEWS = 1 << 16 };
#define KEPT_BYTES ((size_t)64 << 20) /* larger scratch goes back to the system after the call */

/* Scratch that no call is using, as a list: never more than calls ran at once. Touched only with the GIL held. */
typedef struct {
    Scratch *idle;
} State;

static Scratch *take_scratch(State *state) {
    Scratch *scratch = state->idle;
    if (scratch) state->idle = scratch->next;
    else scratch = calloc(1, sizeof *scratch);
    return scratch;
}

static void give_scratch(State *state, Scratch *scratch) {
    if (scratch_bytes(scratch) > KEPT_BYTES) scratch_empty(scratch);
    scratch->next = state->idle;
    state->idle = scratch;
}

static Render kernel_named(const char *name) {
    if (!strcmp(name, "sse2")) return render_view_sse2;
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2")) return render_view_avx2;
    return NULL;
}

static int is_bytes(const Py_buffer *buffer) {
    return buffer->itemsize == 1 && (!buffer->format || !strcmp(buffer->format, "B"));
}

/* An image of [H, W, 3] with packed pixels, or grey: [H, W], or [H, W, 3] whose last axis has stride 0. */
static int read_source(const Py_buffer *b, Source *source) {
    const int grey = b->ndim == 2 || (b->ndim == 3 && b->strides[2] == 0);
    if (!is_bytes(b) || (b->ndim != 2 && (b->ndim != 3 || b->shape[2] != 3)) || b->shape[0] < 1 || b->shape[1] < 1 ||
        (b->shape[1] > 1 && b->strides[1] != (grey ? 1 : 3)) || (!grey && b->strides[2] != 1)) {
        PyErr_SetString(PyExc_ValueError, "pixels: expected uint8 [H, W, 3] or [H, W] with packed rows");
        return -1;
    }
    *source = (Source){b->buf, b->strides[0], b->shape[1], b->shape[0], grey ? 1 : 3};
    return 0;
}

static int check_out(const Py_buffer *b) {
    if (is_bytes(b) && b->ndim == 4 && b->shape[1] == b->shape[2] && b->shape[3] == 3 && PyBuffer_IsContiguous(b, 'C'))
        return 0;
    PyErr_SetString(PyExc_ValueError, "out: expected a contiguous uint8 [B, S, S, 3]");
    return -1;
}

/* Whether writing to `out` could change the image that is read. */
static int overlap(const Py_buffer *pixels, const Py_buffer *out) {
    const char *first = pixels->buf, *last = pixels->buf;
    for (int d = 0; d < pixels->ndim; d++) {
        const Py_ssize_t reach = (pixels->shape[d] - 1) * pixels->strides[d];
        if (reach < 0) first += reach;
        else last += reach;
    }
    const char *start = out->buf;
    return last >= start && first < start + out->len;
}

/* Read the packed views and where they go. */
static int read_views(PyObject *list, PyObject *rows, const Source *source, const Py_buffer *out, ViewSpec *views,
                      Py_ssize_t *places) {
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyList_GetItem(list, i), &bytes, &length)) return -1;
        const char *wrong = read_view(&views[i], bytes, (size_t)length, source->width, source->height);
        if (!wrong && views[i].head.size != out->shape[1]) wrong = "its size is not that of out";
        if (wrong) {
            PyErr_Format(PyExc_ValueError, "view %zd: %s", i, wrong);
            return -1;
        }
        places[i] = PyLong_AsSsize_t(PyList_GetItem(rows, i));
        if (places[i] == -1 && PyErr_Occurred()) return -1;
        if (places[i] < 0 || places[i] >= out->shape[0]) {
            PyErr_Format(PyExc_IndexError, "view %zd: row %zd of %zd", i, places[i], out->shape[0]);
            return -1;
        }
    }
    return 0;
}

static int render_all(PyObject *module, Render render, const Py_buffer *pixels, PyObject *list, PyObject *rows,
                      const Py_buffer *out) {
    Source source;
    if (read_source(pixels, &source) || check_out(out)) return -1;
    if (overlap(pixels, out)) {
        PyErr_SetString(PyExc_ValueError, "pixels and out overlap");
        return -1;
    }
    const Py_ssize_t count = PyList_Size(list);
    if (count > MOST_VIEWS || PyList_Size(rows) != count) {
        PyErr_SetString(PyExc_ValueError, "expected one row for each view, and at most 65536 views");
        return -1;
    }
    State *state = PyModule_GetState(module);
    ViewSpec *views = malloc((size_t)(count + 1) * sizeof *views);
    Py_ssize_t *places = malloc((size_t)(count + 1) * sizeof *places);
    Scratch *scratch = take_scratch(state);
    int failed = -1;
    if (!views || !places || !scratch) {
        PyErr_NoMemory();
    } else if (!read_views(list, rows, &source, out, views, places)) {
        failed = 0;
        Py_BEGIN_ALLOW_THREADS
        const size_t bytes = (size_t)out->shape[1] * (size_t)out->shape[1] * 3;
        for (Py_ssize_t i = 0; i < count && !failed; i++)
            failed = render(scratch, &source, &views[i], (uint8_t *)out->buf + (size_t)places[i] * bytes);
        Py_END_ALLOW_THREADS
        if (failed) PyErr_NoMemory();
    }
    if (scratch) give_scratch(state, scratch);
    free(views);
    free(places);
    return failed;
}

PyDoc_STRVAR(render_doc,
"render_into(instructions, pixels, views, rows, out)\n--\n\n"
"Render views of one decoded image into rows of a batch, the GIL released once.\n\n"
"Args:\n"
"    instructions: one of instruction_sets().\n"
"    pixels: uint8 [H, W, 3] with packed pixels, or grey, [H, W] or [H, W, 3] repeated by a stride of 0.\n"
"    views: list of packed views, bytes (see packed.py).\n"
"    rows: list of int, for each view its place in `out`.\n"
"    out: uint8 [B, S, S, 3], contiguous, writable; only the given rows are written.\n\n"
"Raises:\n"
"    ValueError, IndexError, TypeError, BufferError: an argument is not as said; nothing was written.\n"
"    MemoryError: some rows may have been written.");

static PyObject *render_into(PyObject *module, PyObject *args) {
    const char *instructions;
    PyObject *pixels_object, *list, *rows, *out_object;
    if (!PyArg_ParseTuple(args, "sOO!O!O:render_into", &instructions, &pixels_object, &PyList_Type, &list,
                          &PyList_Type, &rows, &out_object))
        return NULL;
    const Render render = kernel_named(instructions);
    if (!render) return PyErr_Format(PyExc_ValueError, "no instructions '%s' on this processor", instructions);
    Py_buffer pixels, out;
    if (PyObject_GetBuffer(pixels_object, &pixels, PyBUF_RECORDS_RO)) return NULL;
    int failed = PyObject_GetBuffer(out_object, &out, PyBUF_RECORDS);
    if (!failed) {
        failed = render_all(module, render, &pixels, list, rows, &out);
        PyBuffer_Release(&out);
    }
    PyBuffer_Release(&pixels);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(sets_doc,
"instruction_sets()\n--\n\n"
"The instruction sets this processor can run, the quickest last: ('sse2',) or ('sse2', 'avx2').");

static PyObject *instruction_sets(PyObject *module, PyObject *nothing) {
    (void)module, (void)nothing;
    return kernel_named("avx2") ? Py_BuildValue("(ss)", "sse2", "avx2") : Py_BuildValue("(s)", "sse2");
}

static void free_module(void *module) {
    State *state = PyModule_GetState(module);
    while (state && state->idle) {
        Scratch *scratch = state->idle;
        state->idle = scratch->next;
        scratch_empty(scratch);
        free(scratch);
    }
}

static PyMethodDef methods[] = {
    {"render_into", render_into, METH_VARARGS, render_doc},
    {"instruction_sets", instruction_sets, METH_NOARGS, sets_doc},
    {NULL, NULL, 0, NULL},
};

static int add_constants(PyObject *module) {
    return PyModule_AddIntConstant(module, "SPEC_LAYOUT", SPEC_LAYOUT) ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_constants}, {0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_views",
    .m_doc = "Views rendered natively, with Pillow's bytes.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__views(void) { return PyModuleDef_Init(&definition); }
