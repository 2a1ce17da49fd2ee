// The losses and the optimiser; see `common.cu`. Their kernels do the same for every type of activation.

__device__ static float not_a_number() { return __uint_as_float(0x7fc00000); }

// log of the sum of exponentials of one pixel's logits.
__device__ static float log_sum_exp(const float* x, u32 plane, u32 classes) {
    float largest = x[0], sum = 0.0f;
    for (u32 k = 1; k < classes; ++k) largest = larger(largest, x[(size_t)k * plane]);
    for (u32 k = 0; k < classes; ++k) sum += expf(x[(size_t)k * plane] - largest);
    return largest + logf(sum);
}

// Eq. 1 over the block's pixels, [block][4]: the cross-entropies on scribbles and on weak labels, and how many there are. A label that
// is neither a class nor unknown makes the loss not a number: nobody waits here to be told.
extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy(
    const float* logits, const u8* scribble, const u8* weak, double* partial, u32 pixels, u32 plane, u32 classes, u32 per_block) {
    const u32 start = blockIdx.x * per_block, end = start + per_block < pixels ? start + per_block : pixels;
    double sums[2] = {0.0, 0.0}, counts[2] = {0.0, 0.0};
    for (u32 p = start + threadIdx.x; p < end; p += THREADS) {
        const u32 labels[2] = {scribble[p], weak[p]};
        if (labels[0] == UNKNOWN && labels[1] == UNKNOWN) continue;
        const float* x = logits + (size_t)(p / plane) * classes * plane + p % plane;
        const float all = log_sum_exp(x, plane, classes);
        for (u32 i = 0; i < 2; ++i) {
            if (labels[i] == UNKNOWN) continue;
            counts[i] += 1.0;
            sums[i] += labels[i] < classes ? all - x[(size_t)labels[i] * plane] : not_a_number();
        }
    }
    for (u32 i = 0; i < 2; ++i) {
        const double sum = total(sums[i]), count = total(counts[i]);
        if (threadIdx.x == 0) {
            partial[4 * (size_t)blockIdx.x + i] = sum;
            partial[4 * (size_t)blockIdx.x + 2 + i] = count;
        }
    }
}

// The loss, and the weight of a labelled pixel in each of its two terms; one block.
extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy_finish(const double* partial, u32 blocks, double lambda, float* loss, double* weights) {
    __shared__ double sums[4];
    const double sum = add_blocks(partial, blocks, 4, threadIdx.x % COLUMNS);
    if (threadIdx.x < 4) sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    weights[0] = sums[2] > 0.0 ? 1.0 / sums[2] : 0.0;
    weights[1] = sums[3] > 0.0 ? lambda / sums[3] : 0.0;
    *loss = (float)(weights[0] * sums[0] + weights[1] * sums[1]);
}

extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_gradient(
    const float* logits, const u8* scribble, const u8* weak, const double* weights, const float* outer, float* dx, u32 pixels,
    u32 plane, u32 classes) {
    const u32 pixel = item();
    if (pixel >= pixels) return;
    const size_t at = (size_t)(pixel / plane) * classes * plane + pixel % plane;
    const u32 labels[2] = {scribble[pixel], weak[pixel]};
    const float first = labels[0] == UNKNOWN ? 0.0f : *outer * (float)weights[0];
    const float second = labels[1] == UNKNOWN ? 0.0f : *outer * (float)weights[1];
    if (labels[0] == UNKNOWN && labels[1] == UNKNOWN) {
        for (u32 k = 0; k < classes; ++k) dx[at + (size_t)k * plane] = 0.0f;
        return;
    }
    const float all = log_sum_exp(logits + at, plane, classes);
    for (u32 k = 0; k < classes; ++k) {
        float slope = (first + second) * expf(logits[at + (size_t)k * plane] - all);
        slope -= labels[0] == k ? first : 0.0f;
        slope -= labels[1] == k ? second : 0.0f;
        dx[at + (size_t)k * plane] = slope;
    }
}

// Of class `blockIdx.y + 1` over the block's labelled pixels, [block][class - 1][3]: the sums of p g and of p + g, and of g.
extern "C" __global__ void __launch_bounds__(THREADS)
    overlap(const float* probabilities, const u8* mask, double* partial, u32 pixels, u32 plane, u32 classes, u32 per_block) {
    const u32 start = blockIdx.x * per_block, end = start + per_block < pixels ? start + per_block : pixels;
    const u32 k = blockIdx.y + 1;
    double sums[3] = {0.0, 0.0, 0.0};
    for (u32 i = start + threadIdx.x; i < end; i += THREADS) {
        const u32 label = mask[i];
        if (label == UNKNOWN) continue;
        const float p = probabilities[((size_t)(i / plane) * classes + k) * plane + i % plane];
        sums[1] += label < classes ? p : not_a_number();
        if (label == k) {
            sums[0] += p;
            sums[1] += 1.0;
            sums[2] += 1.0;
        }
    }
    for (u32 i = 0; i < 3; ++i) {
        const double sum = total(sums[i]);
        if (threadIdx.x == 0) partial[((size_t)blockIdx.x * (classes - 1) + blockIdx.y) * 3 + i] = sum;
    }
}

// The soft Dice loss, and for each class its gradient by a probability outside and inside the mask; one block.
extern "C" __global__ void __launch_bounds__(THREADS)
    overlap_finish(const double* partial, u32 blocks, u32 classes, float* loss, float* slopes) {
    __shared__ double sums[COLUMNS];
    double all = 0.0;
    for (u32 k = 0; k + 1 < classes; ++k) {
        const double sum = add_blocks(partial + 3 * (size_t)k, blocks, 3 * (classes - 1), threadIdx.x % COLUMNS % 3);
        if (threadIdx.x < 3) sums[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
            const double shared = sums[0], size = sums[1];
            const bool present = sums[2] > 0.0;
            if (present || size != size) all += 1.0 - 2.0 * shared / size;
            for (u32 inside = 0; inside < 2; ++inside) {
                const double slope = -2.0 * (inside * size - shared) / (size * size) / (classes - 1);
                slopes[2 * k + inside] = present ? (float)slope : 0.0f;
            }
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) *loss = (float)(all / (classes - 1));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    overlap_gradient(const u8* mask, const float* slopes, const float* outer, float* dp, u32 pixels, u32 plane, u32 classes) {
    const u32 pixel = item();
    if (pixel >= pixels) return;
    const u32 label = mask[pixel];
    float* to = dp + (size_t)(pixel / plane) * classes * plane + pixel % plane;
    to[0] = 0.0f;
    for (u32 k = 1; k < classes; ++k) {
        to[(size_t)k * plane] = label == UNKNOWN ? 0.0f : *outer * slopes[2 * (k - 1) + (label == k ? 1 : 0)];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    softmax(const float* logits, float* out, u32 pixels, u32 plane, u32 classes) {
    const u32 pixel = item();
    if (pixel >= pixels) return;
    const size_t at = (size_t)(pixel / plane) * classes * plane + pixel % plane;
    const float all = log_sum_exp(logits + at, plane, classes);
    for (u32 k = 0; k < classes; ++k) out[at + (size_t)k * plane] = expf(logits[at + (size_t)k * plane] - all);
}

// dx = y (g - sum of g y)
extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_gradient(const float* y, const float* g, float* dx, u32 pixels, u32 plane, u32 classes) {
    const u32 pixel = item();
    if (pixel >= pixels) return;
    const size_t at = (size_t)(pixel / plane) * classes * plane + pixel % plane;
    float mean = 0.0f;
    for (u32 k = 0; k < classes; ++k) mean += g[at + (size_t)k * plane] * y[at + (size_t)k * plane];
    for (u32 k = 0; k < classes; ++k) {
        dx[at + (size_t)k * plane] = y[at + (size_t)k * plane] * (g[at + (size_t)k * plane] - mean);
    }
}

// ---------------------------------------------------------------------------------------------- optimiser

// v <- momentum v + (g + decay p)
extern "C" __global__ void __launch_bounds__(THREADS)
    sgd_velocity(float* v, const float* g, const float* p, float momentum, float decay, u32 count) {
    const u32 i = item();
    if (i < count) v[i] = momentum * v[i] + (g[i] + decay * p[i]);
}

// p <- p - rate v
extern "C" __global__ void __launch_bounds__(THREADS) sgd_descend(float* p, const float* v, float rate, u32 count) {
    const u32 i = item();
    if (i < count) p[i] -= rate * v[i];
}
