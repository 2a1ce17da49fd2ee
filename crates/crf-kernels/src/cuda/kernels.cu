// The dense CRF on a GPU. NVRTC compiles this at run time, once for each set of the constants below; the tests compile it
// with a C++ compiler (`host.cpp`) and run it with real threads.
//
// No atomics and no sum whose order depends on how threads are scheduled: the same input gives the same bytes.
//
// Constants:
//   CLASSES   K of the loss; 0 for a plain filter
//   CHANNELS  planes that go through the filter
//   ROI, GATE, CONSTANT   whether the loss has a region of interest, a gate, the constant that keeps it from being negative
//   FEATURES  features a pixel, of the exact kernel

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

// A lattice or an image's features, packed into words by `packed.rs`: this header, then what it points to.
enum Header {
    VERTICES,
    CORNERS,
    CHUNKS,
    ROUNDS,
    SCALE,         // bits of a float
    SIMPLEX,       // [pixel]
    WEIGHT,        // u16 [pixel][corner], fractions of 65535
    CORNER,        // [simplex][corner]
    NEIGHBOURS,    // [direction][vertex][2], VERTICES where there is none
    ENTRY_PIXEL,   // the splat's lists: chunks of one vertex's pixels, 32 chunks side by side
    ENTRY_WEIGHT,  // u16
    GROUP,         // [group of 32 chunks] where its entries start
    LENGTH,        // [chunk] entries
    SLOT,          // [chunk] its place among the partial sums
    FIRST,         // [vertex + 1] each vertex's first partial sum
    MASS,          // [pixel]
    COORDINATES,   // [feature][pixel]
    EXPANDED,      // whether |a - b|^2 may be taken apart; coordinates are then times sqrt(log2 e), 0 in their middle
    NORM,          // [pixel] half the squared length of those
};

// One image of a batch.
struct Job {
    const u32* packed;
    u64 workspace;  // floats before this image's part of the workspace
    u32 view;       // 1: rows flipped, 2: columns flipped, 4: then transposed
    u32 shared;     // whether its lattice fits in shared memory
};

// The planes of one image, in the order in which the tensor shows its pixels.
struct Planes {
    const float* values;  // [class or channel][pixel]
    const float* roi;
    const float* gate;
    u32 pixels;
};

__device__ static const float* floats(const u32* packed, u32 field) {
    return (const float*)(packed + packed[field]);
}

__device__ static const u16* halves(const u32* packed, u32 field) {
    return (const u16*)(packed + packed[field]);
}

// Where a tensor of `height` rows of `width` shows pixel p of the image.
__device__ static u32 shown(u32 p, u32 view, u32 height, u32 width) {
    if (view == 0) return p;
    const u32 rows = view & 4 ? width : height, columns = view & 4 ? height : width;
    u32 y = p / columns, x = p % columns;
    if (view & 1) y = rows - 1 - y;
    if (view & 2) x = columns - 1 - x;
    return view & 4 ? x * rows + y : y * columns + x;
}

// What is filtered at pixel q of the tensor: the values themselves, or r y_k, then with a gate g r y_k, then for the
// constant's sake r.
__device__ static void channels(const Planes& planes, u32 q, float* value) {
    const size_t n = planes.pixels;
#if CLASSES == 0
    for (u32 c = 0; c < CHANNELS; ++c) value[c] = planes.values[c * n + q];
#else
    for (u32 k = 0; k < CLASSES; ++k) {
        value[k] = planes.values[k * n + q];
#if ROI
        value[k] *= planes.roi[q];
#endif
#if GATE
        value[CLASSES + k] = value[k] * planes.gate[q];
#endif
    }
#if ROI && CONSTANT
    value[CHANNELS - 1] = planes.roi[q];
#endif
#endif
}

#if CLASSES > 0
// Loss and gradient at pixel q, of which `filtered` are the channels and `mass` is (W 1) there.
__device__ static double loss_at(
    const Planes& planes, u32 q, const float* filtered, float mass, float share, float* gradient) {
    const size_t n = planes.pixels;
    float r = 1.0f, g = 1.0f, constant = 0.0f;
#if ROI
    r = planes.roi[q];
#endif
#if GATE
    g = planes.gate[q];
#endif
#if CONSTANT && ROI
    constant = filtered[CHANNELS - 1];
#elif CONSTANT
    constant = mass;
#endif
    double loss = 0.0;
    for (u32 k = 0; k < CLASSES; ++k) {
        const float own = filtered[k];
#if GATE
        const float other = filtered[CLASSES + k];
#else
        const float other = own;
#endif
        const float value = r * planes.values[k * n + q];
        loss += (double)(g * value) * (double)(constant - own);
        gradient[k * n + q] = share * (r * (g * (constant - own) - other));
    }
    return loss;
}

// The sum of every thread's value, in an order of its own; for thread 0. A block has a power of two of threads.
__device__ static double total(double value) {
    __shared__ double sums[1024];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}
#endif

// (1/2, 1, 1/2) along every direction in turn, from one buffer into the other; returns which of the two holds the result.
__device__ static float* blur(const u32* packed, float* values, float* other, bool reverse) {
    const u32 vertices = packed[VERTICES], directions = packed[CORNERS], rounds = packed[ROUNDS];
    const u32* neighbours = packed + packed[NEIGHBOURS];
    for (u32 round = 0; round < rounds; ++round) {
        for (u32 step = 0; step < directions; ++step) {
            const u32 direction = reverse ? directions - 1 - step : step;
            const u32* pairs = neighbours + 2 * (size_t)direction * vertices;
            for (u32 v = threadIdx.x; v < vertices; v += blockDim.x) {
                const float* a = values + (size_t)pairs[2 * v] * CHANNELS;
                const float* b = values + (size_t)pairs[2 * v + 1] * CHANNELS;
                for (u32 c = 0; c < CHANNELS; ++c) {
                    const size_t i = (size_t)v * CHANNELS + c;
                    other[i] = values[i] + 0.5f * (a[c] + b[c]);
                }
            }
            __syncthreads();
            float* swapped = values;
            values = other;
            other = swapped;
        }
    }
    return values;
}

// Splats and blurs the planes; returns the vertices' values. `memory` holds max(3 (V + 1), V + 1 + chunks) vertices, of
// which the one after the last stands for those that are not there.
__device__ static const float* blurred(
    const u32* packed, u32 view, const Planes& planes, u32 height, u32 width, float* memory) {
    const u32 vertices = packed[VERTICES], chunks = packed[CHUNKS];
    const size_t size = ((size_t)vertices + 1) * CHANNELS;
    float* sums = memory;
    float* one = sums + size;
    float* two = one + size;
    float* partial = one;  // until the sums are made
    const u32* pixel = packed + packed[ENTRY_PIXEL];
    const u16* weight = halves(packed, ENTRY_WEIGHT);
    for (u32 chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) {
        const u32 length = packed[packed[LENGTH] + chunk];
        size_t entry = (size_t)packed[packed[GROUP] + chunk / 32] + chunk % 32;
        float sum[CHANNELS], value[CHANNELS];
        for (u32 c = 0; c < CHANNELS; ++c) sum[c] = 0.0f;
        // Several loads under way at once: each waits for the one of its pixel's number.
#pragma unroll 8
        for (u32 i = 0; i < length; ++i, entry += 32) {
            channels(planes, shown(pixel[entry], view, height, width), value);
            for (u32 c = 0; c < CHANNELS; ++c) sum[c] += (float)weight[entry] * value[c];
        }
        float* to = partial + (size_t)packed[packed[SLOT] + chunk] * CHANNELS;
        for (u32 c = 0; c < CHANNELS; ++c) to[c] = sum[c] * (1.0f / 65535.0f);
    }
    __syncthreads();
    const u32* first = packed + packed[FIRST];
    for (u32 v = threadIdx.x; v <= vertices; v += blockDim.x) {
        for (u32 c = 0; c < CHANNELS; ++c) {
            float sum = 0.0f;
            for (u32 s = first[v]; v < vertices && s < first[v + 1]; ++s) sum += partial[(size_t)s * CHANNELS + c];
            sums[(size_t)v * CHANNELS + c] = sum;
        }
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < size; i += blockDim.x) {
        one[i] = sums[i];
        if (i >= size - CHANNELS) two[i] = 0.0f;
    }
    __syncthreads();
    float* forward = blur(packed, one, two, false);
    float* spare = forward == one ? two : one;
    const float* reverse = blur(packed, sums, spare, true);
    // 1/2 for the mean of both orders.
    const float scale = 0.5f * *(const float*)(packed + SCALE);
    for (size_t i = threadIdx.x; i < size; i += blockDim.x) forward[i] = scale * (forward[i] + reverse[i]);
    __syncthreads();
    return forward;
}

// The blurred vertices at pixel p.
__device__ static void slice(const u32* packed, u32 p, const float* vertices, float* value) {
    const u32 corners = packed[CORNERS];
    const u32* corner = packed + packed[CORNER] + (size_t)packed[packed[SIMPLEX] + p] * corners;
    const u16* weight = halves(packed, WEIGHT) + (size_t)p * corners;
    for (u32 c = 0; c < CHANNELS; ++c) value[c] = 0.0f;
    for (u32 i = 0; i < corners; ++i) {
        const float* vertex = vertices + (size_t)corner[i] * CHANNELS;
        const float w = (float)weight[i] * (1.0f / 65535.0f);
        for (u32 c = 0; c < CHANNELS; ++c) value[c] += w * vertex[c];
    }
}

#ifndef ON_HOST
extern __shared__ float shared_memory[];
#endif

// The planes of image `image`, each of `pixels`.
__device__ static Planes planes_of(const float* values, const float* roi, const float* gate, u32 image, u32 pixels) {
    const u32 count = CLASSES > 0 ? CLASSES : CHANNELS;
    Planes planes = {values + (size_t)image * count * pixels, roi, gate, pixels};
#if ROI
    planes.roi += (size_t)image * pixels;
#endif
#if GATE
    planes.gate += (size_t)image * pixels;
#endif
    return planes;
}

#if !defined(FEATURES)

// W on the lattice, a block an image. A plain filter writes W v to `out`; the loss writes its gradient there, times
// `share`, and the image's loss to `losses`.
extern "C" __global__ void __launch_bounds__(1024) lattice(
    const Job* jobs, const float* values, const float* roi, const float* gate, float* out, double* losses,
    float* workspace, u32 height, u32 width, float share) {
    const u32 image = blockIdx.y, pixels = height * width;
    const Job job = jobs[image];
    const Planes planes = planes_of(values, roi, gate, image, pixels);
    float* memory = job.shared ? shared_memory : workspace + job.workspace;
    const float* vertices = blurred(job.packed, job.view, planes, height, width, memory);
    out += (size_t)image * (CLASSES > 0 ? CLASSES : CHANNELS) * pixels;
    float value[CHANNELS];
#if CLASSES > 0
    double loss = 0.0;
    const float* mass = floats(job.packed, MASS);
#endif
    for (u32 p = threadIdx.x; p < pixels; p += blockDim.x) {
        const u32 q = shown(p, job.view, height, width);
        slice(job.packed, p, vertices, value);
#if CLASSES > 0
        loss += loss_at(planes, q, value, mass[p], share, out);
#else
        for (u32 c = 0; c < CHANNELS; ++c) out[c * (size_t)pixels + q] = value[c];
#endif
    }
#if CLASSES > 0
    loss = total(loss);
    if (threadIdx.x == 0) losses[image] = loss;
#endif
}

#else

#define TILE 256                                         // threads of a block, and pixels of a tile
#define ROWS 4                                           // pixels a thread sums for
#define STRIDE ((FEATURES + 1 + CHANNELS + 3) / 4 * 4)   // floats of a pixel in a tile

// Adds a tile of `count` pixels to the sums of this thread's own.
template <bool EXPAND>
__device__ static void add_tile(
    const float* tile, u32 count, const float (*own)[FEATURES], const float* own_norm, float (*part)[CHANNELS]) {
#pragma unroll 4
    for (u32 j = 0; j < count; ++j) {
        const float* other = tile + j * STRIDE;
        for (u32 r = 0; r < ROWS; ++r) {
            float exponent;
            if (EXPAND) {
                // -1/2 |a - b|^2 = a b - 1/2 |a|^2 - 1/2 |b|^2
                exponent = -(own_norm[r] + other[FEATURES]);
                for (u32 f = 0; f < FEATURES; ++f) exponent += own[r][f] * other[f];
            } else {
                float square = 0.0f;
                for (u32 f = 0; f < FEATURES; ++f) {
                    const float difference = own[r][f] - other[f];
                    square += difference * difference;
                }
                exponent = -0.72134752f * square;  // 1/2 log2 e
            }
            const float w = exp2f(exponent);
            for (u32 c = 0; c < CHANNELS; ++c) part[r][c] += w * other[FEATURES + 1 + c];
        }
    }
}

// W by its definition: a block sums over all pixels for TILE * ROWS of them. Otherwise as `lattice`, but for one loss a
// block.
extern "C" __global__ void __launch_bounds__(TILE) exact(
    const Job* jobs, const float* values, const float* roi, const float* gate, float* out, double* losses,
    float* workspace, u32 height, u32 width, float share) {
    __shared__ __align__(16) float tile[TILE * STRIDE];
    const u32 image = blockIdx.y, pixels = height * width;
    const Job job = jobs[image];
    const Planes planes = planes_of(values, roi, gate, image, pixels);
    const float* coordinates = floats(job.packed, COORDINATES);
    const float* norm = floats(job.packed, NORM);
    const bool expanded = job.packed[EXPANDED];
    float own[ROWS][FEATURES], own_norm[ROWS], sum[ROWS][CHANNELS];
    for (u32 r = 0; r < ROWS; ++r) {
        const size_t p = ((size_t)blockIdx.x * ROWS + r) * TILE + threadIdx.x;
        for (u32 f = 0; f < FEATURES; ++f) own[r][f] = p < pixels ? coordinates[f * (size_t)pixels + p] : 0.0f;
        own_norm[r] = p < pixels ? norm[p] : 0.0f;
        for (u32 c = 0; c < CHANNELS; ++c) sum[r][c] = 0.0f;
    }
    for (u32 start = 0; start < pixels; start += TILE) {
        const u32 count = pixels - start < TILE ? pixels - start : TILE;
        __syncthreads();
        if (threadIdx.x < count) {
            const u32 p = start + threadIdx.x;
            float* to = tile + threadIdx.x * STRIDE;
            for (u32 f = 0; f < FEATURES; ++f) to[f] = coordinates[f * (size_t)pixels + p];
            to[FEATURES] = norm[p];
            channels(planes, shown(p, job.view, height, width), to + FEATURES + 1);
        }
        __syncthreads();
        // A sum a tile, so that little is lost to rounding over many pixels.
        float part[ROWS][CHANNELS];
        for (u32 r = 0; r < ROWS; ++r)
            for (u32 c = 0; c < CHANNELS; ++c) part[r][c] = 0.0f;
        if (expanded)
            add_tile<true>(tile, count, own, own_norm, part);
        else
            add_tile<false>(tile, count, own, own_norm, part);
        for (u32 r = 0; r < ROWS; ++r)
            for (u32 c = 0; c < CHANNELS; ++c) sum[r][c] += part[r][c];
    }
    out += (size_t)image * (CLASSES > 0 ? CLASSES : CHANNELS) * pixels;
#if CLASSES > 0
    double loss = 0.0;
    const float* mass = floats(job.packed, MASS);
#endif
    for (u32 r = 0; r < ROWS; ++r) {
        const size_t p = ((size_t)blockIdx.x * ROWS + r) * TILE + threadIdx.x;
        if (p >= pixels) continue;
        const u32 q = shown((u32)p, job.view, height, width);
#if CLASSES > 0
        loss += loss_at(planes, q, sum[r], mass[p], share, out);
#else
        for (u32 c = 0; c < CHANNELS; ++c) out[c * (size_t)pixels + q] = sum[r][c];
#endif
    }
#if CLASSES > 0
    loss = total(loss);
    if (threadIdx.x == 0) losses[(size_t)image * gridDim.x + blockIdx.x] = loss;
#endif
}

#endif

#if CLASSES > 0
// The losses of all images, or of all their parts, as one number; one block.
extern "C" __global__ void __launch_bounds__(1024) add(const double* losses, float* loss, u32 count, float share) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) sum += losses[i];
    sum = total(sum);
    if (threadIdx.x == 0) *loss = (float)(sum * share);
}
#endif
