// Runs `kernels.cu` on a CPU, for the tests: a block's threads are real threads that meet at real barriers, so a thread
// sanitizer sees a barrier that is missing; memory has exactly the size that a launch would give it, so an address sanitizer
// sees an index that is off. Blocks run one after another. A batch comes on standard input, the result goes to standard output.

#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define ON_HOST
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Index {
    unsigned x = 0, y = 0;
};

static thread_local Index threadIdx;
static Index blockIdx, blockDim, gridDim;
static std::barrier<>* meeting;
static float* shared_memory;

static void __syncthreads() { meeting->arrive_and_wait(); }

#include "kernels.cu"

template <typename T>
static std::vector<T> take(size_t count) {
    std::vector<T> values(count);
    if (count > 0 && fread(values.data(), sizeof(T), count, stdin) != count) {
        fprintf(stderr, "the input ends early\n");
        exit(1);
    }
    return values;
}

static u32 word() { return take<u32>(1)[0]; }

// Every block of a grid; `memory(image)` floats of shared memory for each.
template <typename Kernel, typename Memory>
static void launch(u32 blocks, u32 images, u32 threads, Memory memory, Kernel kernel) {
    blockDim.x = threads;
    gridDim = {blocks, images};
    for (blockIdx.y = 0; blockIdx.y < images; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
            std::unique_ptr<float[]> shared(new float[memory(blockIdx.y)]);
            shared_memory = shared.get();
            std::barrier<> barrier(threads);
            meeting = &barrier;
            std::vector<std::thread> running;
            for (u32 t = 0; t < threads; ++t) {
                running.emplace_back([&, t] {
                    threadIdx.x = t;
                    kernel();
                });
            }
            for (auto& thread : running) thread.join();
        }
    }
}

int main() {
    const u32 images = word(), height = word(), width = word(), threads = word(), blocks = word(), shared = word();
    float share;
    const u32 bits = word();
    memcpy(&share, &bits, sizeof share);
    std::vector<std::vector<u32>> packed;
    std::vector<Job> jobs;
    std::vector<size_t> needed;
    size_t floats = 0;
    for (u32 i = 0; i < images; ++i) {
        const u32 view = word();
        needed.push_back(word());
        packed.push_back(take<u32>(word()));
        jobs.push_back({packed[i].data(), floats, view, shared});
        floats += needed[i];
    }
    const size_t pixels = (size_t)height * width, planes = CLASSES > 0 ? CLASSES : CHANNELS;
    const auto values = take<float>(images * planes * pixels);
    std::vector<float> roi, gate;
#if ROI
    roi = take<float>(images * pixels);
#endif
#if GATE
    gate = take<float>(images * pixels);
#endif
    std::vector<float> out(values.size(), NAN), workspace(shared ? 0 : floats);
    std::vector<double> losses(images * blocks, NAN);
    const auto memory = [&](u32 image) { return shared ? needed[image] : 0; };
    launch(blocks, images, threads, memory, [&] {
#if defined(FEATURES)
        exact(
#else
        lattice(
#endif
            jobs.data(), values.data(), roi.data(), gate.data(), out.data(), losses.data(), workspace.data(), height, width,
            share);
    });
    fwrite(out.data(), sizeof(float), out.size(), stdout);
#if CLASSES > 0
    float loss = NAN;
    launch(1, 1, threads, [](u32) { return 0; }, [&] { add(losses.data(), &loss, images * blocks, share); });
    fwrite(&loss, sizeof loss, 1, stdout);
#endif
    return 0;
}
