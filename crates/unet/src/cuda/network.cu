// The network but for its convolutions; see `common.cu`.

// ---------------------------------------------------------------------------------------------- layout

// Images to activations.
extern "C" __global__ void __launch_bounds__(THREADS)
    images_in(const float* images, T* out, u32 pixels, u32 plane, u32 channels, u32 vectors) {
    const u32 i = item();
    if (i >= pixels * vectors) return;
    const u32 pixel = i % pixels, vector = i / pixels, image = pixel / plane, p = pixel % plane;
    float value[LANES];
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) {
        const u32 c = vector * LANES + l;
        value[l] = c < channels ? images[((size_t)image * channels + c) * plane + p] : 0.0f;
    }
    store(out + ((size_t)pixel * vectors + vector) * LANES, value);
}

// The way back, of a gradient.
extern "C" __global__ void __launch_bounds__(THREADS)
    images_out(const T* g, float* images, u32 pixels, u32 plane, u32 channels, u32 vectors) {
    const u32 i = item();
    if (i >= pixels * vectors) return;
    const u32 pixel = i % pixels, vector = i / pixels, image = pixel / plane, p = pixel % plane;
    float value[LANES];
    load(g + ((size_t)pixel * vectors + vector) * LANES, value);
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) {
        const u32 c = vector * LANES + l;
        if (c < channels) images[((size_t)image * channels + c) * plane + p] = value[l];
    }
}

// Kernels `[output][input][tap]` to `[output][tap][input]`. Of the inputs, `first` lie at 0, the rest at `second_at`.
extern "C" __global__ void __launch_bounds__(THREADS) weights_in(
    const float* weights, T* out, u32 count, u32 outputs, u32 inputs, u32 padded, u32 first, u32 second_at) {
    const u32 i = item();
    if (i >= count) return;
    const u32 c = i % padded, tap = i / padded % 9, o = i / padded / 9;
    u32 from = inputs;
    if (c < first) from = c;
    if (c >= second_at) from = first + (c - second_at);
    store_one(out + i, o < outputs && from < inputs ? weights[((size_t)o * inputs + from) * 9 + tap] : 0.0f);
}

// The way back, of a gradient.
extern "C" __global__ void __launch_bounds__(THREADS) weights_out(
    const T* g, float* out, u32 count, u32 inputs, u32 padded, u32 first, u32 second_at) {
    const u32 i = item();
    if (i >= count) return;
    const u32 tap = i % 9, c = i / 9 % inputs, o = i / 9 / inputs;
    out[i] = load_one(g + ((size_t)o * 9 + tap) * padded + (c < first ? c : second_at + (c - first)));
}

// ---------------------------------------------------------------------------------------------- batch norm

// Of each channel over the block's pixels: the sums of y - shift and of its square, where the shift is the channel's first value, so
// that nothing cancels when the mean is far from zero. `partial` is [block][channel][2].
extern "C" __global__ void __launch_bounds__(THREADS)
    norm_sums(const T* y, double* partial, u32 pixels, u32 vectors, u32 per_block) {
    const Share s = share(vectors);
    float sum[LANES], squares[LANES], shift[LANES], value[LANES];
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) sum[l] = squares[l] = 0.0f;
    const u32 start = blockIdx.x * per_block, end = start + per_block < pixels ? start + per_block : pixels;
    if (s.active) {
        load(y + (size_t)s.vector * LANES, shift);
        for (u32 p = start + s.row; p < end; p += s.rows) {
            load(y + ((size_t)p * vectors + s.vector) * LANES, value);
#pragma unroll
            for (u32 l = 0; l < LANES; ++l) {
                const float v = value[l] - shift[l];
                sum[l] += v;
                squares[l] += v * v;
            }
        }
    }
    const u32 channels = vectors * LANES;
    partial += (size_t)blockIdx.x * channels * 2;
    add_rows(s, sum, channels, partial, 2);
    add_rows(s, squares, channels, partial + 1, 2);
}

// The normalisation of channel c from its moments.
__device__ static void set_affine(float* affine, u32 c, double mean, double variance, double gamma, double beta) {
    const double scale = gamma / sqrt(variance + EPSILON);
    affine[2 * c] = (float)scale;
    affine[2 * c + 1] = (float)(beta - mean * scale);
}

// Moments and normalisation of each channel [channel][2], zero where it is padding, and the running statistics moved towards them.
extern "C" __global__ void __launch_bounds__(THREADS) norm_finish(
    const double* partial, u32 blocks, const T* y, u32 pixels, u32 padded, u32 channels, const float* gamma, const float* beta,
    float* running_mean, float* running_variance, double momentum, double* moments, float* affine) {
    __shared__ double pairs[2][COLUMNS];
    // A block's COLUMNS channels are 2 * COLUMNS columns of `partial`.
    for (u32 half = 0; half < 2; ++half) {
        const u32 at = threadIdx.x % COLUMNS + half * COLUMNS;
        const double sum = add_blocks(partial, blocks, 2 * padded, 2 * blockIdx.x * COLUMNS + at);
        if (threadIdx.x < COLUMNS) pairs[at % 2][at / 2] = sum;
    }
    __syncthreads();
    const u32 c = column();
    if (threadIdx.x >= COLUMNS || c >= padded) return;
    if (c >= channels) {
        moments[2 * c] = moments[2 * c + 1] = 0.0;
        affine[2 * c] = affine[2 * c + 1] = 0.0f;
        return;
    }
    const double count = pixels, offset = pairs[0][threadIdx.x] / count;
    const double mean = load_one(y + c) + offset;
    const double spread = pairs[1][threadIdx.x] / count - offset * offset, variance = spread < 0.0 ? 0.0 : spread;
    moments[2 * c] = mean;
    moments[2 * c + 1] = variance;
    set_affine(affine, c, mean, variance, gamma[c], beta[c]);
    if (running_mean) {
        const double unbiased = pixels > 1 ? variance * (count / (count - 1.0)) : variance;
        running_mean[c] = (float)((1.0 - momentum) * running_mean[c] + momentum * mean);
        running_variance[c] = (float)((1.0 - momentum) * running_variance[c] + momentum * unbiased);
    }
}

// The same from statistics that are given.
extern "C" __global__ void __launch_bounds__(THREADS) norm_fixed(
    const float* mean, const float* variance, const float* gamma, const float* beta, u32 padded, u32 channels, double* moments,
    float* affine) {
    const u32 c = (u32)item();
    if (c >= padded) return;
    const bool own = c < channels;
    moments[2 * c] = own ? mean[c] : 0.0;
    moments[2 * c + 1] = own ? variance[c] : 0.0;
    set_affine(affine, c, moments[2 * c], moments[2 * c + 1], own ? gamma[c] : 0.0, own ? beta[c] : 0.0);
}

__device__ static void normalise(const float* scale, const float* shift, float* value) {
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) {
        const float v = scale[l] * value[l] + shift[l];
        // Written so that what is not a number stays one.
        value[l] = v < 0.0f ? 0.0f : v;
    }
}

// z = max(0, scale y + shift)
extern "C" __global__ void __launch_bounds__(THREADS)
    norm_relu(const T* y, const float* affine, T* z, u32 items, u32 vectors) {
    const u32 i = item();
    if (i >= items) return;
    float value[LANES], scale[LANES], shift[LANES];
    load(y + (size_t)i * LANES, value);
    load_pairs(affine, i % vectors, scale, shift);
    normalise(scale, shift, value);
    store(z + (size_t)i * LANES, value);
}

__device__ static float larger(float a, float b) { return b > a ? b : a; }

// The first of four values, two in a row, of a pixel of the half grid; `width` is that grid's.
__device__ static size_t corner(u32 half, u32 width) {
    return 4 * (size_t)(half / width) * width + 2 * (half % width);
}

// The same with the maxima over 2 x 2 windows; a thread for each of the `items` vectors of the half grid, `width` wide.
extern "C" __global__ void __launch_bounds__(THREADS)
    norm_relu_pool(const T* y, const float* affine, T* z, T* pooled, u32 items, u32 vectors, u32 width) {
    const u32 i = item();
    if (i >= items) return;
    const u32 vector = i % vectors;
    const size_t first = corner(i / vectors, width);
    float largest[LANES], value[LANES], scale[LANES], shift[LANES];
    load_pairs(affine, vector, scale, shift);
#pragma unroll
    for (u32 k = 0; k < 4; ++k) {
        const size_t at = ((first + k / 2 * 2 * width + k % 2) * vectors + vector) * LANES;
        load(y + at, value);
        normalise(scale, shift, value);
        store(z + at, value);
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) largest[l] = k == 0 ? value[l] : larger(largest[l], value[l]);
    }
    store(pooled + (size_t)i * LANES, largest);
}

// Of each channel over the block's pixels: the sums of g', which is g where y passed the ReLU, and of g' (y - mean).
extern "C" __global__ void __launch_bounds__(THREADS) norm_gradient_sums(
    const T* y, const T* g, const float* affine, const double* moments, double* partial, u32 pixels, u32 vectors, u32 per_block) {
    const Share s = share(vectors);
    float sum[LANES], products[LANES];
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) sum[l] = products[l] = 0.0f;
    const u32 start = blockIdx.x * per_block, end = start + per_block < pixels ? start + per_block : pixels;
    if (s.active) {
        float scale[LANES], shift[LANES], mean[LANES], value[LANES], slope[LANES];
        load_pairs(affine, s.vector, scale, shift);
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) mean[l] = (float)moments[2 * (s.vector * LANES + l)];
        for (u32 p = start + s.row; p < end; p += s.rows) {
            load(y + ((size_t)p * vectors + s.vector) * LANES, value);
            load(g + ((size_t)p * vectors + s.vector) * LANES, slope);
#pragma unroll
            for (u32 l = 0; l < LANES; ++l) {
                const float passed = scale[l] * value[l] + shift[l] > 0.0f ? slope[l] : 0.0f;
                sum[l] += passed;
                products[l] += passed * (value[l] - mean[l]);
            }
        }
    }
    const u32 channels = vectors * LANES;
    partial += (size_t)blockIdx.x * channels * 2;
    add_rows(s, sum, channels, partial, 2);
    add_rows(s, products, channels, partial + 1, 2);
}

// The gradients of gamma and beta, and for each channel (a, b) such that that of y is scale g' + a y + b. With `batch` the
// moments came from y and take part in its gradient.
extern "C" __global__ void __launch_bounds__(THREADS) norm_gradient_finish(
    const double* partial, u32 blocks, u32 pixels, u32 padded, u32 channels, const float* affine, const double* moments, u32 batch,
    float* d_gamma, float* d_beta, float* line) {
    __shared__ double pairs[2][COLUMNS];
    for (u32 half = 0; half < 2; ++half) {
        const u32 at = threadIdx.x % COLUMNS + half * COLUMNS;
        const double sum = add_blocks(partial, blocks, 2 * padded, 2 * blockIdx.x * COLUMNS + at);
        if (threadIdx.x < COLUMNS) pairs[at % 2][at / 2] = sum;
    }
    __syncthreads();
    const u32 c = column();
    if (threadIdx.x >= COLUMNS || c >= padded) return;
    double a = 0.0, b = 0.0;
    if (c < channels) {
        const double inverse = 1.0 / sqrt(moments[2 * c + 1] + EPSILON), scale = affine[2 * c];
        const double sum = pairs[0][threadIdx.x], products = pairs[1][threadIdx.x] * inverse;
        d_beta[c] = (float)sum;
        d_gamma[c] = (float)products;
        if (batch) {
            a = -scale * inverse * products / pixels;
            b = -scale * sum / pixels - a * moments[2 * c];
        }
    }
    line[2 * c] = (float)a;
    line[2 * c + 1] = (float)b;
}

// g <- scale g' + a y + b
extern "C" __global__ void __launch_bounds__(THREADS)
    norm_gradient(const T* y, T* g, const float* affine, const float* line, u32 items, u32 vectors) {
    const u32 i = item();
    if (i >= items) return;
    float value[LANES], slope[LANES], scale[LANES], shift[LANES], a[LANES], b[LANES];
    load(y + (size_t)i * LANES, value);
    load(g + (size_t)i * LANES, slope);
    load_pairs(affine, i % vectors, scale, shift);
    load_pairs(line, i % vectors, a, b);
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) {
        const float passed = scale[l] * value[l] + shift[l] > 0.0f ? slope[l] : 0.0f;
        slope[l] = scale[l] * passed + (a[l] * value[l] + b[l]);
    }
    store(g + (size_t)i * LANES, slope);
}

// ---------------------------------------------------------------------------------------------- levels

// [`low` upsampled by 2, `skip`] along the channels; `width` is that of the skip connection.
extern "C" __global__ void __launch_bounds__(THREADS)
    upsample_concat(const T* low, const T* skip, T* out, u32 items, u32 low_vectors, u32 skip_vectors, u32 width) {
    const u32 i = item();
    if (i >= items) return;
    const u32 vectors = low_vectors + skip_vectors, vector = i % vectors;
    const u32 pixel = i / vectors, row = pixel / width, column = pixel % width;
    const T* from = vector < low_vectors
                        ? low + ((size_t)(row / 2 * (width / 2) + column / 2) * low_vectors + vector) * LANES
                        : skip + ((size_t)pixel * skip_vectors + (vector - low_vectors)) * LANES;
    *(uint4*)(out + (size_t)i * LANES) = *(const uint4*)from;
}

// The gradient of `low`; a thread for each of its `items` vectors, `width` is its own.
extern "C" __global__ void __launch_bounds__(THREADS)
    upsample_gradient(const T* g, T* low, u32 items, u32 low_vectors, u32 vectors, u32 width) {
    const u32 i = item();
    if (i >= items) return;
    const u32 vector = i % low_vectors;
    const size_t first = corner(i / low_vectors, width);
    float sum[LANES], value[LANES];
#pragma unroll
    for (u32 k = 0; k < 4; ++k) {
        load(g + ((first + k / 2 * 2 * width + k % 2) * vectors + vector) * LANES, value);
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) sum[l] = k == 0 ? value[l] : sum[l] + value[l];
    }
    store(low + (size_t)i * LANES, sum);
}

// The gradient of a skip connection z: its part of `g`, that of the concatenation, and that of the pooling at the first
// maximum of each window. A thread for each of the `items` vectors of the half grid, `width` wide.
extern "C" __global__ void __launch_bounds__(THREADS) skip_gradient(
    const T* g, const T* z, const T* pooled, T* out, u32 items, u32 skip_vectors, u32 low_vectors, u32 width) {
    const u32 i = item();
    if (i >= items) return;
    const u32 vector = i % skip_vectors, vectors = low_vectors + skip_vectors;
    const size_t first = corner(i / skip_vectors, width);
    float slope[LANES], window[4][LANES];
    load(pooled + (size_t)i * LANES, slope);
#pragma unroll
    for (u32 k = 0; k < 4; ++k) {
        load(z + ((first + k / 2 * 2 * width + k % 2) * skip_vectors + vector) * LANES, window[k]);
    }
    u32 best[LANES];
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) {
        best[l] = 0;
        float largest = window[0][l];
#pragma unroll
        for (u32 k = 1; k < 4; ++k) {
            if (window[k][l] > largest) {
                largest = window[k][l];
                best[l] = k;
            }
        }
    }
#pragma unroll
    for (u32 k = 0; k < 4; ++k) {
        const size_t pixel = first + k / 2 * 2 * width + k % 2;
        float value[LANES];
        load(g + (pixel * vectors + low_vectors + vector) * LANES, value);
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) value[l] += best[l] == k ? slope[l] : 0.0f;
        store(out + (pixel * skip_vectors + vector) * LANES, value);
    }
}

// ---------------------------------------------------------------------------------------------- head

// Classes whose sums a thread holds at once.
#define SOME 4

// Logits: the 1 x 1 convolution.
extern "C" __global__ void __launch_bounds__(THREADS) head(
    const T* z, const float* weight, const float* bias, float* logits, u32 pixels, u32 plane, u32 channels, u32 vectors,
    u32 classes) {
    const u32 pixel = item();
    if (pixel >= pixels) return;
    const u32 image = pixel / plane, p = pixel % plane;
    for (u32 from = 0; from < classes; from += SOME) {
        float sum[SOME], value[LANES];
#pragma unroll
        for (u32 k = 0; k < SOME; ++k) sum[k] = from + k < classes ? bias[from + k] : 0.0f;
        for (u32 vector = 0; vector < vectors; ++vector) {
            load(z + ((size_t)pixel * vectors + vector) * LANES, value);
#pragma unroll
            for (u32 l = 0; l < LANES; ++l) {
                const u32 c = vector * LANES + l;
#pragma unroll
                for (u32 k = 0; k < SOME; ++k) {
                    if (c < channels && from + k < classes) sum[k] += weight[(size_t)(from + k) * channels + c] * value[l];
                }
            }
        }
#pragma unroll
        for (u32 k = 0; k < SOME; ++k) {
            if (from + k < classes) logits[((size_t)image * classes + from + k) * plane + p] = sum[k];
        }
    }
}

// The gradient of z.
extern "C" __global__ void __launch_bounds__(THREADS) head_gradient(
    const float* g, const float* weight, T* dz, u32 items, u32 plane, u32 channels, u32 vectors, u32 classes) {
    const u32 i = item();
    if (i >= items) return;
    const u32 pixel = i / vectors, image = pixel / plane, p = pixel % plane, vector = i % vectors;
    float sum[LANES];
#pragma unroll
    for (u32 l = 0; l < LANES; ++l) sum[l] = 0.0f;
    for (u32 k = 0; k < classes; ++k) {
        const float slope = g[((size_t)image * classes + k) * plane + p];
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) {
            const u32 c = vector * LANES + l;
            if (c < channels) sum[l] += weight[(size_t)k * channels + c] * slope;
        }
    }
    store(dz + (size_t)i * LANES, sum);
}

// Over the block's pixels, of class `blockIdx.z * SOME` and the next: the sums of g z for each channel, and of g. `partial` is
// [block][class][channel, and one for the bias].
extern "C" __global__ void __launch_bounds__(THREADS) head_sums(
    const T* z, const float* g, double* partial, u32 pixels, u32 plane, u32 vectors, u32 classes, u32 per_block) {
    const Share s = share(vectors);
    const u32 from = blockIdx.z * SOME, channels = vectors * LANES;
    float sum[SOME][LANES], of_bias[SOME][LANES], value[LANES];
#pragma unroll
    for (u32 k = 0; k < SOME; ++k)
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) sum[k][l] = of_bias[k][l] = 0.0f;
    const u32 start = blockIdx.x * per_block, end = start + per_block < pixels ? start + per_block : pixels;
    if (s.active) {
        for (u32 p = start + s.row; p < end; p += s.rows) {
            const u32 image = p / plane, at = p % plane;
            load(z + ((size_t)p * vectors + s.vector) * LANES, value);
#pragma unroll
            for (u32 k = 0; k < SOME; ++k) {
                const float slope = from + k < classes ? g[((size_t)image * classes + from + k) * plane + at] : 0.0f;
#pragma unroll
                for (u32 l = 0; l < LANES; ++l) sum[k][l] += slope * value[l];
                of_bias[k][0] += slope;
            }
        }
    }
#pragma unroll
    for (u32 k = 0; k < SOME; ++k) {
        if (from + k >= classes) break;
        double* to = partial + ((size_t)blockIdx.x * classes + from + k) * (channels + 1);
        add_rows(s, sum[k], channels, to, 1);
        // Every vector has summed the same; the first one's counts.
        add_rows(s, of_bias[k], blockIdx.y == 0 ? 1 : 0, to + channels, 1);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    head_finish(const double* partial, u32 blocks, u32 padded, u32 channels, u32 classes, float* d_weight, float* d_bias) {
    const u32 row = padded + 1, at = column();
    const double sum = add_blocks(partial, blocks, classes * row, at);
    if (threadIdx.x >= COLUMNS || at >= classes * row) return;
    const u32 k = at / row, c = at % row;
    if (c < channels) d_weight[(size_t)k * channels + c] = (float)sum;
    if (c == padded) d_bias[k] = (float)sum;
}

// The most probable class of each pixel; on a tie the lowest.
extern "C" __global__ void __launch_bounds__(THREADS)
    most_probable(const float* logits, u8* out, u32 pixels, u32 plane, u32 classes) {
    const u32 pixel = item();
    if (pixel >= pixels) return;
    const float* x = logits + (size_t)(pixel / plane) * classes * plane + pixel % plane;
    u32 best = 0;
    for (u32 k = 1; k < classes; ++k) {
        if (x[(size_t)k * plane] > x[(size_t)best * plane]) best = k;
    }
    out[pixel] = (u8)best;
}
