// A device made of a CPU, for the tests: runs the kernels, and the convolutions by their definition. Requests come on standard
// input, answers go to standard output. Started for more than one thread, a block's threads are real threads that meet at real barriers,
// so a thread sanitizer sees a barrier that is missing; else they take turns, from barrier to barrier, which is faster. Every piece
// of memory has exactly the size that was asked for, so an address sanitizer sees an index that is off. New memory is filled
// with what is not a number.

#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __CUDA_ARCH__ 0

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

static thread_local Index threadIdx, blockIdx;
static std::barrier<>* meeting;  // of real threads
static ucontext_t scheduler, turns[256];

static void __syncthreads() {
    if (meeting)
        meeting->arrive_and_wait();
    else
        swapcontext(&turns[threadIdx.x], &scheduler);
}

static float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#include "common.cu"
#include "network.cu"
#include "losses.cu"

typedef uint64_t u64;

static u64 word() {
    u64 value;
    if (fread(&value, sizeof value, 1, stdin) != 1) exit(0);  // whoever asks is gone
    return value;
}

// Calls a kernel with arguments that come as words.
template <typename... A, size_t... I>
static void call(void (*kernel)(A...), const u64* words, std::index_sequence<I...>) {
    std::tuple<A...> arguments;
    (memcpy(&std::get<I>(arguments), words + I, sizeof(A)), ...);
    kernel(std::get<I>(arguments)...);
}

struct Entry {
    void (*run)(const u64*);
    size_t arguments;
    bool meets;  // whether its threads wait for each other
};

template <auto kernel>
struct Adapter;
template <typename... A, void (*kernel)(A...)>
struct Adapter<kernel> {
    static constexpr size_t count = sizeof...(A);
    static void run(const u64* words) { call(kernel, words, std::index_sequence_for<A...>()); }
};

#define FREE(name) {Adapter<&name>::run, Adapter<&name>::count, false}
#define MEETS(name) {Adapter<&name>::run, Adapter<&name>::count, true}

// In the order of `Kernel` in `machine.rs`.
static const Entry kernels[] = {
    FREE(images_in), FREE(images_out), FREE(weights_in), FREE(weights_out), MEETS(norm_sums), MEETS(norm_finish),
    FREE(norm_fixed), FREE(norm_relu), FREE(norm_relu_pool), MEETS(norm_gradient_sums), MEETS(norm_gradient_finish),
    FREE(norm_gradient), FREE(upsample_concat), FREE(upsample_gradient), FREE(skip_gradient), FREE(head),
    FREE(head_gradient), MEETS(head_sums), MEETS(head_finish), FREE(most_probable), MEETS(cross_entropy),
    MEETS(cross_entropy_finish), FREE(cross_entropy_gradient), MEETS(overlap), MEETS(overlap_finish), FREE(overlap_gradient),
    FREE(softmax), FREE(softmax_gradient), FREE(sgd_velocity), FREE(sgd_descend),
};

static unsigned real_threads = 1;  // of a block whose threads do not wait for each other

static Index block(Index grid, unsigned b) { return {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y}; }

// A block's threads in turn, each up to its next barrier.
static const Entry* running;
static const u64* arguments;
static unsigned done;

static void turn() {
    running->run(arguments);
    ++done;
}

static void take_turns(const Entry& entry, Index grid, const u64* words) {
    static std::vector<char> stacks(THREADS << 16);
    meeting = nullptr;
    running = &entry;
    arguments = words;
    for (unsigned b = 0; b < grid.x * grid.y * grid.z; ++b) {
        blockIdx = block(grid, b);
        for (unsigned t = 0; t < THREADS; ++t) {
            getcontext(&turns[t]);
            turns[t].uc_stack.ss_sp = &stacks[(size_t)t << 16];
            turns[t].uc_stack.ss_size = 1 << 16;
            turns[t].uc_link = &scheduler;
            makecontext(&turns[t], turn, 0);
        }
        // All of them pass as many barriers, so all of them end in the same round.
        for (done = 0; done == 0;) {
            for (unsigned t = 0; t < THREADS; ++t) {
                threadIdx.x = t;
                swapcontext(&scheduler, &turns[t]);
            }
            if (done != 0 && done != THREADS) {
                fprintf(stderr, "%u of %u threads passed their last barrier\n", done, THREADS);
                exit(1);
            }
        }
    }
}

static void launch(const Entry& entry, Index grid, const u64* words) {
    if (entry.meets && real_threads == 1) return take_turns(entry, grid, words);
    const unsigned threads = entry.meets ? THREADS : real_threads;
    std::barrier<> barrier(threads);
    meeting = &barrier;
    const auto work = [&](unsigned first) {
        for (unsigned b = 0; b < grid.x * grid.y * grid.z; ++b) {
            blockIdx = block(grid, b);
            for (unsigned t = first; t < THREADS; t += threads) {
                threadIdx.x = t;
                entry.run(words);
            }
            // What a block shares is the next one's too.
            if (threads > 1) barrier.arrive_and_wait();
        }
    };
    if (threads == 1) return work(0);
    std::vector<std::thread> crew;
    for (unsigned t = 0; t < threads; ++t) crew.emplace_back(work, t);
    for (auto& thread : crew) thread.join();
}

// 0: y from x and w; 1: x from w and y; 2: w from x and y, where those are the gradients.
static void convolve(u64 kind, size_t n, size_t h, size_t w, size_t ci, size_t co, T* x, T* weight, T* y) {
    const size_t size = kind == 0 ? n * h * w * co : kind == 1 ? n * h * w * ci : co * 9 * ci;
    std::vector<double> sums(size);
    for (size_t image = 0; image < n; ++image)
        for (size_t r = 0; r < h; ++r)
            for (size_t c = 0; c < w; ++c)
                for (size_t tap = 0; tap < 9; ++tap) {
                    const size_t sr = r + tap / 3 - 1, sc = c + tap % 3 - 1;
                    if (sr >= h || sc >= w) continue;
                    const size_t from = ((image * h + sr) * w + sc) * ci, to = ((image * h + r) * w + c) * co;
                    for (size_t o = 0; o < co; ++o)
                        for (size_t i = 0; i < ci; ++i) {
                            const size_t k = (o * 9 + tap) * ci + i;
                            if (kind == 0) sums[to + o] += (double)load_one(x + from + i) * load_one(weight + k);
                            if (kind == 1) sums[from + i] += (double)load_one(y + to + o) * load_one(weight + k);
                            if (kind == 2) sums[k] += (double)load_one(y + to + o) * load_one(x + from + i);
                        }
                }
    T* out = kind == 0 ? y : kind == 1 ? x : weight;
    for (size_t i = 0; i < size; ++i) store_one(out + i, (float)sums[i]);
}

static void reply(const void* bytes, size_t count) {
    fwrite(bytes, 1, count, stdout);
    fflush(stdout);
}

int main(int count, char** values) {
    if (count > 1) real_threads = atoi(values[1]);
    for (;;) {
        const u64 request = word();
        if (request == 0) {  // memory
            const u64 size = word();
            const u64 address = (u64)malloc(size);
            memset((void*)address, 0xff, size);
            reply(&address, sizeof address);
        } else if (request == 1) {
            free((void*)word());
        } else if (request == 2) {  // to the device
            void* to = (void*)word();
            const u64 size = word();
            if (fread(to, 1, size, stdin) != size) return 1;
        } else if (request == 3) {  // from the device
            const void* from = (const void*)word();
            reply(from, word());
        } else if (request == 4) {
            const Entry& entry = kernels[word()];
            const unsigned x = word(), y = word(), z = word();
            std::vector<u64> words(word());
            for (u64& w : words) w = word();
            if (words.size() != entry.arguments) {
                fprintf(stderr, "expected %zu arguments, found %zu\n", entry.arguments, words.size());
                return 1;
            }
            launch(entry, {x, y, z}, words.data());
        } else if (request == 5) {
            u64 a[9];
            for (u64& value : a) value = word();
            convolve(a[0], a[1], a[2], a[3], a[4], a[5], (T*)a[6], (T*)a[7], (T*)a[8]);
        } else if (request == 6) {  // on the device
            void* to = (void*)word();
            const void* from = (const void*)word();
            memcpy(to, from, word());
        } else {
            return 1;
        }
    }
}
