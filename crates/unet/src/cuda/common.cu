// The network but for its convolutions (`network.cu`), the losses and the optimiser (`losses.cu`) on a GPU, and first what both
// need. NVRTC compiles the three as one at run time, once for each type of activation; the tests compile them with a C++ compiler
// (`host.cpp`) and run them on the CPU.
//
// Activations are `[image][row][column][channel]`, their channels padded with zeros to whole vectors of 16 bytes; logits,
// labels and images are `[image][channel][row][column]` in f32, parameters f32 as candle has them. A thread handles one vector
// of one pixel, neighbours neighbouring vectors, so every access is 16 bytes wide and coalesced.
//
// No atomics and no sum whose order depends on how threads are scheduled or on the device: sums go over blocks whose number
// the shape decides, then in order over the blocks. The same input gives the same bytes.
//
// Constants:
//   BF16   activations are bf16, else f32

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define THREADS 256
#define UNKNOWN 255
#define EPSILON 1e-5

#if BF16
typedef u16 T;
#define LANES 8
#else
typedef float T;
#define LANES 4
#endif

// Columns that a block adds up side by side in a `*_finish`.
#define COLUMNS 32

#if BF16
__device__ static float widened(u16 value) { return __uint_as_float((u32)value << 16); }

// To the nearest, ties to even.
__device__ static u32 narrowed(float low, float high) {
#if __CUDA_ARCH__ >= 800
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    u32 bits[2] = {__float_as_uint(low), __float_as_uint(high)};
    for (u32 i = 0; i < 2; ++i) {
        const bool nan = (bits[i] & 0x7fffffff) > 0x7f800000;
        bits[i] = nan ? 0x7fff : (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) >> 16;
    }
    return bits[1] << 16 | bits[0];
#endif
}
#endif

__device__ static float load_one(const T* from) {
#if BF16
    return widened(*from);
#else
    return *from;
#endif
}

__device__ static void store_one(T* to, float value) {
#if BF16
    *to = (T)narrowed(value, 0.0f);
#else
    *to = value;
#endif
}

__device__ static void load(const T* from, float* value) {
    const uint4 raw = *(const uint4*)from;
    const u32 words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
#if BF16
        value[2 * i] = __uint_as_float(words[i] << 16);
        value[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000);
#else
        value[i] = __uint_as_float(words[i]);
#endif
    }
}

__device__ static void store(T* to, const float* value) {
    u32 words[4];
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
#if BF16
        words[i] = narrowed(value[2 * i], value[2 * i + 1]);
#else
        words[i] = __float_as_uint(value[i]);
#endif
    }
    const uint4 raw = {words[0], words[1], words[2], words[3]};
    *(uint4*)to = raw;
}

// This thread's number in the grid's first direction; there are fewer than 2^31, for division of 64 bits is slow.
__device__ static u32 item() { return blockIdx.x * THREADS + threadIdx.x; }

// Of each channel of a vector the two values of `pairs` [channel][2].
__device__ static void load_pairs(const float* pairs, u32 vector, float* first, float* second) {
#pragma unroll
    for (u32 l = 0; l < LANES; l += 2) {
        const uint4 raw = *(const uint4*)(pairs + 2 * (vector * LANES + l));
        first[l] = __uint_as_float(raw.x);
        second[l] = __uint_as_float(raw.y);
        first[l + 1] = __uint_as_float(raw.z);
        second[l + 1] = __uint_as_float(raw.w);
    }
}

// ---------------------------------------------------------------------------------------------- sums

// What a thread sums in a block that goes over pixels: `columns` vectors side by side, `rows` pixels at a time.
struct Share {
    u32 columns, rows, column, row, vector;
    bool active;
};

__device__ static Share share(u32 vectors) {
    Share s;
    s.columns = vectors < COLUMNS ? vectors : COLUMNS;
    s.rows = THREADS / s.columns;
    s.column = threadIdx.x % s.columns;
    s.row = threadIdx.x / s.columns;
    s.vector = blockIdx.y * s.columns + s.column;
    s.active = s.row < s.rows && s.vector < vectors;
    return s;
}

// Adds up the rows' values; channel c of the block goes to `out[c * stride]`.
__device__ static void add_rows(const Share& s, const float* mine, u32 channels, double* out, u32 stride) {
    __shared__ float all[THREADS * LANES];
    const u32 width = s.columns * LANES;
    if (s.row < s.rows) {
#pragma unroll
        for (u32 l = 0; l < LANES; ++l) all[s.row * width + s.column * LANES + l] = s.active ? mine[l] : 0.0f;
    }
    __syncthreads();
    for (u32 c = threadIdx.x; c < width; c += THREADS) {
        double sum = 0.0;
        for (u32 r = 0; r < s.rows; ++r) sum += all[r * width + c];
        const u32 channel = blockIdx.y * width + c;
        if (channel < channels) out[(size_t)channel * stride] = sum;
    }
    __syncthreads();
}

// The sum over all blocks of column `blockIdx.x * COLUMNS + threadIdx.x % COLUMNS`, in their order within each of the rows; for
// the first row of threads.
__device__ static double add_blocks(const double* partial, u32 blocks, u32 columns, u32 column) {
    __shared__ double all[THREADS];
    const u32 rows = THREADS / COLUMNS;
    double sum = 0.0;
    if (column < columns) {
        // Loads of several rounds are on their way at once; the order of the sum is that of the blocks all the same.
#pragma unroll 16
        for (u32 b = threadIdx.x / COLUMNS; b < blocks; b += rows) sum += partial[(size_t)b * columns + column];
    }
    all[threadIdx.x] = sum;
    __syncthreads();
    sum = 0.0;
    if (threadIdx.x < COLUMNS) {
        for (u32 r = 0; r < rows; ++r) sum += all[r * COLUMNS + threadIdx.x];
    }
    __syncthreads();
    return sum;
}

// The sum of every thread's value, in an order of its own; for thread 0.
__device__ static double total(double value) {
    __shared__ double all[THREADS];
    all[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) all[threadIdx.x] += all[threadIdx.x + half];
        __syncthreads();
    }
    const double sum = all[0];
    __syncthreads();
    return sum;
}

__device__ static u32 column() { return blockIdx.x * COLUMNS + threadIdx.x % COLUMNS; }
