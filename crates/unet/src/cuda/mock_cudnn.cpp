// The part of cuDNN that `cudnn.rs` calls, on the CPU and by definition, for its tests: what is set in descriptors counts, in the order of
// arguments that cuDNN's own header declares. With `-DHEADER` that header is read too, so that a declaration of ours that differs does not compile.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef HEADER
#include <cudnn.h>
typedef cudnnStatus_t Status;
typedef cudnnTensorFormat_t Format;
typedef cudnnDataType_t Type;
typedef cudnnConvolutionMode_t Mode;
typedef cudnnMathType_t Math;
typedef cudnnConvolutionFwdAlgo_t Forward;
typedef cudnnConvolutionBwdDataAlgo_t Data;
typedef cudnnConvolutionBwdFilterAlgo_t Weight;
typedef cudnnConvolutionFwdAlgoPerf_t ForwardPerf;
typedef cudnnConvolutionBwdDataAlgoPerf_t DataPerf;
typedef cudnnConvolutionBwdFilterAlgoPerf_t WeightPerf;
typedef cudnnDeterminism_t Determinism;
typedef cudaStream_t Stream;
#else
typedef int Status, Format, Type, Mode, Math, Forward, Data, Weight, Determinism;
typedef void* Stream;
struct Perf {
    int algo, status;
    float time;
    size_t memory;
    int determinism, mathType, reserved[3];
};
typedef Perf ForwardPerf, DataPerf, WeightPerf;
struct cudnnContext;
struct cudnnTensorStruct;
struct cudnnFilterStruct;
struct cudnnConvolutionStruct;
typedef cudnnContext* cudnnHandle_t;
typedef cudnnTensorStruct* cudnnTensorDescriptor_t;
typedef cudnnFilterStruct* cudnnFilterDescriptor_t;
typedef cudnnConvolutionStruct* cudnnConvolutionDescriptor_t;
#endif

struct cudnnContext {
    void* stream;
};
struct cudnnTensorStruct {
    int format, type, n, c, h, w;
};
struct cudnnFilterStruct {
    int type, format, k, c, h, w;
};
struct cudnnConvolutionStruct {
    int pad[2], stride[2], dilation[2], mode, type, math;
};

static Status status(int value) { return (Status)value; }
static int alive;  // descriptors and handles

extern "C" {

int mock_alive() { return alive; }

size_t cudnnGetVersion() { return 90000; }
Status cudnnCreate(cudnnHandle_t* handle) { return ++alive, *handle = new cudnnContext(), status(0); }
Status cudnnDestroy(cudnnHandle_t handle) { return --alive, delete handle, status(0); }
Status cudnnSetStream(cudnnHandle_t handle, Stream stream) { return handle->stream = stream, status(0); }

Status cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) { return ++alive, *d = new cudnnTensorStruct(), status(0); }
Status cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) { return --alive, delete d, status(0); }
Status cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, Format format, Type type, int n, int c, int h, int w) {
    *d = {(int)format, (int)type, n, c, h, w};
    return status(0);
}
Status cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* d) { return ++alive, *d = new cudnnFilterStruct(), status(0); }
Status cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) { return --alive, delete d, status(0); }
Status cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, Type type, Format format, int k, int c, int h, int w) {
    *d = {(int)type, (int)format, k, c, h, w};
    return status(0);
}
Status cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) {
    return ++alive, *d = new cudnnConvolutionStruct(), status(0);
}
Status cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) { return --alive, delete d, status(0); }
Status cudnnSetConvolution2dDescriptor(
    cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int u, int v, int dilation_h, int dilation_w, Mode mode, Type type) {
    *d = {{pad_h, pad_w}, {u, v}, {dilation_h, dilation_w}, (int)mode, (int)type, 0};
    return status(0);
}
Status cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, Math math) { return d->math = (int)math, status(0); }
Status cudnnGetConvolution2dForwardOutputDim(
    const cudnnConvolutionDescriptor_t, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w, int* n, int* c, int* h,
    int* width) {
    *n = x->n, *c = w->k, *h = x->h, *width = x->w;
    return status(0);
}

}  // extern "C"

// Whether the descriptors are of one convolution: NHWC, 3 x 3, padding 1, cross-correlation, sums in f32.
static bool fits(const cudnnConvolutionStruct* c, const cudnnTensorStruct* x, const cudnnFilterStruct* w, const cudnnTensorStruct* y) {
    const int type = x->type;
    return (type == 0 || type == 9) && w->type == type && y->type == type && x->format == 1 && y->format == 1 && w->format == 1 &&
           w->h == 3 && w->w == 3 && w->c == x->c && w->k == y->c && x->n == y->n && x->h == y->h && x->w == y->w && c->pad[0] == 1 &&
           c->pad[1] == 1 && c->stride[0] == 1 && c->stride[1] == 1 && c->dilation[0] == 1 && c->dilation[1] == 1 && c->mode == 1 &&
           c->type == 0;
}

#define ALGORITHM 1
#define ROOM 64

template <typename P>
static Status propose(bool fits, int asked, int* found, P* out) {
    if (!fits || asked < 2) return status(3);
    const auto set = [](P& p, int algorithm, int determinism) {
        memset(&p, 0, sizeof p);
        p.algo = (decltype(p.algo))algorithm;
        p.memory = ROOM;
        p.determinism = (Determinism)determinism;
        p.mathType = (Math)1;
    };
    set(out[0], 0, 0);
    set(out[1], ALGORITHM, 1);
    *found = 2;
    return status(0);
}

static float read(const void* values, size_t i, int type) {
    if (type == 0) return ((const float*)values)[i];
    const uint32_t bits = (uint32_t)((const uint16_t*)values)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void write(void* values, size_t i, int type, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == 0)
        ((float*)values)[i] = value;
    else
        ((uint16_t*)values)[i] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// 0: y; 1: x; 2: w.
static Status run(
    int kind, bool fits, int algorithm, const void* workspace, size_t room, const void* alpha, const void* beta,
    const cudnnTensorStruct* dx, void* x, const cudnnFilterStruct* dw, void* w, const cudnnTensorStruct* dy, void* y) {
    if (!fits || algorithm != ALGORITHM || room != ROOM || !workspace || *(const float*)alpha != 1 || *(const float*)beta != 0)
        return status(3);
    memset((void*)workspace, 1, room);
    const size_t n = dx->n, h = dx->h, width = dx->w, ci = dx->c, co = dy->c;
    std::vector<double> sums(kind == 0 ? n * h * width * co : kind == 1 ? n * h * width * ci : co * 9 * ci);
    for (size_t image = 0; image < n; ++image)
        for (size_t r = 0; r < h; ++r)
            for (size_t c = 0; c < width; ++c)
                for (size_t tap = 0; tap < 9; ++tap) {
                    const size_t sr = r + tap / 3 - 1, sc = c + tap % 3 - 1;
                    if (sr >= h || sc >= width) continue;
                    const size_t from = ((image * h + sr) * width + sc) * ci, to = ((image * h + r) * width + c) * co;
                    for (size_t o = 0; o < co; ++o)
                        for (size_t i = 0; i < ci; ++i) {
                            const size_t k = (o * 9 + tap) * ci + i;
                            const int t = dx->type;
                            if (kind == 0) sums[to + o] += (double)read(x, from + i, t) * read(w, k, t);
                            if (kind == 1) sums[from + i] += (double)read(y, to + o, t) * read(w, k, t);
                            if (kind == 2) sums[k] += (double)read(y, to + o, t) * read(x, from + i, t);
                        }
                }
    (void)dw;
    for (size_t i = 0; i < sums.size(); ++i) write(kind == 0 ? y : kind == 1 ? x : w, i, dx->type, (float)sums[i]);
    return status(0);
}

extern "C" {

Status cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w, const cudnnConvolutionDescriptor_t c,
    const cudnnTensorDescriptor_t y, const int asked, int* found, ForwardPerf* out) {
    return propose(fits(c, x, w, y), asked, found, out);
}
Status cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t y, const cudnnConvolutionDescriptor_t c,
    const cudnnTensorDescriptor_t x, const int asked, int* found, DataPerf* out) {
    return propose(fits(c, x, w, y), asked, found, out);
}
Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t y, const cudnnConvolutionDescriptor_t c,
    const cudnnFilterDescriptor_t w, const int asked, int* found, WeightPerf* out) {
    return propose(fits(c, x, w, y), asked, found, out);
}
Status cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w, const cudnnConvolutionDescriptor_t c,
    const cudnnTensorDescriptor_t y, Forward algorithm, size_t* size) {
    *size = ROOM;
    return status(fits(c, x, w, y) && algorithm == ALGORITHM ? 0 : 3);
}
Status cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t y, const cudnnConvolutionDescriptor_t c,
    const cudnnTensorDescriptor_t x, Data algorithm, size_t* size) {
    *size = ROOM;
    return status(fits(c, x, w, y) && algorithm == ALGORITHM ? 0 : 3);
}
Status cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t y, const cudnnConvolutionDescriptor_t c,
    const cudnnFilterDescriptor_t w, Weight algorithm, size_t* size) {
    *size = ROOM;
    return status(fits(c, x, w, y) && algorithm == ALGORITHM ? 0 : 3);
}
Status cudnnConvolutionForward(
    cudnnHandle_t, const void* alpha, const cudnnTensorDescriptor_t dx, const void* x, const cudnnFilterDescriptor_t dw,
    const void* w, const cudnnConvolutionDescriptor_t c, Forward algorithm, void* workspace, size_t room, const void* beta,
    const cudnnTensorDescriptor_t dy, void* y) {
    return run(
        0, fits(c, dx, dw, dy), (int)algorithm, workspace, room, alpha, beta, dx, (void*)x, dw, (void*)w, dy, y);
}
Status cudnnConvolutionBackwardData(
    cudnnHandle_t, const void* alpha, const cudnnFilterDescriptor_t dw, const void* w, const cudnnTensorDescriptor_t dy,
    const void* y, const cudnnConvolutionDescriptor_t c, Data algorithm, void* workspace, size_t room, const void* beta,
    const cudnnTensorDescriptor_t dx, void* x) {
    return run(
        1, fits(c, dx, dw, dy), (int)algorithm, workspace, room, alpha, beta, dx, x, dw, (void*)w, dy, (void*)y);
}
Status cudnnConvolutionBackwardFilter(
    cudnnHandle_t, const void* alpha, const cudnnTensorDescriptor_t dx, const void* x, const cudnnTensorDescriptor_t dy,
    const void* y, const cudnnConvolutionDescriptor_t c, Weight algorithm, void* workspace, size_t room, const void* beta,
    const cudnnFilterDescriptor_t dw, void* w) {
    return run(
        2, fits(c, dx, dw, dy), (int)algorithm, workspace, room, alpha, beta, dx, (void*)x, dw, w, dy, (void*)y);
}

}  // extern "C"
