// Single instructions of a Hopper GPU, words in and words out: what fp8sim's cores are compared with.
//
// Whatever the formats, an instruction here takes 32 bytes of k, and its fragments lie alike in words of
// 4 bytes: one kernel serves all, and only the line of PTX differs. A block of four warps makes 64 rows and
// 8 columns of D = A B + C, by one wgmma (m64n8) or by four mma.sync (m16n8), and goes on over all of k.
//
//   nvcc -gencode=arch=compute_90a,code=sm_90a -shared -Xcompiler -fPIC -o tensor_cores.so tensor_cores.cu

#include <cstdint>
#include <cuda_runtime.h>

struct Operands {
    uint32_t a[4], b[2];
    uint64_t b_in_shared;  // wgmma reads B there
};

// An accumulator of an instruction: four FP32 values of a thread, or four FP16 values in two registers.
struct F32 {
    static constexpr int registers = 4;
    float d[4];
};
struct F16 {
    static constexpr int registers = 2;
    uint32_t d[2];
};

template <int NUMBER> struct Instruction;

#define INSTRUCTION(NUMBER, ACCUMULATOR, NAME, ASM, ...)                           \
    template <> struct Instruction<NUMBER> {                                       \
        using Accumulator = ACCUMULATOR;                                           \
        static constexpr const char *name = NAME;                                  \
        static __device__ void run(ACCUMULATOR &c, const Operands &o) {            \
            auto &d = c.d;                                                         \
            asm volatile(ASM : __VA_ARGS__);                                       \
        }                                                                          \
    };
#define OUT_F32 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define OUT_F16 "+r"(d[0]), "+r"(d[1])
#define IN_A "r"(o.a[0]), "r"(o.a[1]), "r"(o.a[2]), "r"(o.a[3])

#define MMA_F32(NUMBER, SHAPE, A, B)                                                                     \
    INSTRUCTION(NUMBER, F32, "mma " SHAPE " f32 " A " " B,                                               \
                "mma.sync.aligned." SHAPE ".row.col.f32." A "." B                                        \
                ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};",                  \
                OUT_F32 : IN_A, "r"(o.b[0]), "r"(o.b[1]))
#define MMA_F16(NUMBER, SHAPE, A, B)                                                                     \
    INSTRUCTION(NUMBER, F16, "mma " SHAPE " f16 " A " " B,                                               \
                "mma.sync.aligned." SHAPE ".row.col.f16." A "." B                                        \
                ".f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};",                                  \
                OUT_F16 : IN_A, "r"(o.b[0]), "r"(o.b[1]))
// After B: add to D, signs as they are and, for 16-bit formats, B not transposed.
#define WGMMA_F32(NUMBER, SHAPE, A, B, TAIL)                                                             \
    INSTRUCTION(NUMBER, F32, "wgmma " SHAPE " f32 " A " " B,                                             \
                "wgmma.mma_async.sync.aligned." SHAPE ".f32." A "." B                                    \
                " {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, 1, 1, 1" TAIL ";",                             \
                OUT_F32 : IN_A, "l"(o.b_in_shared))
#define WGMMA_F16(NUMBER, SHAPE, A, B, TAIL)                                                             \
    INSTRUCTION(NUMBER, F16, "wgmma " SHAPE " f16 " A " " B,                                             \
                "wgmma.mma_async.sync.aligned." SHAPE ".f16." A "." B                                    \
                " {%0, %1}, {%2, %3, %4, %5}, %6, 1, 1, 1" TAIL ";",                                     \
                OUT_F16 : IN_A, "l"(o.b_in_shared))

MMA_F32(0, "m16n8k16", "f16", "f16")
MMA_F32(1, "m16n8k16", "bf16", "bf16")
MMA_F32(2, "m16n8k8", "tf32", "tf32")
MMA_F16(3, "m16n8k16", "f16", "f16")
MMA_F32(4, "m16n8k32", "e4m3", "e4m3")
MMA_F32(5, "m16n8k32", "e4m3", "e5m2")
MMA_F32(6, "m16n8k32", "e5m2", "e4m3")
MMA_F32(7, "m16n8k32", "e5m2", "e5m2")
MMA_F16(8, "m16n8k32", "e4m3", "e4m3")
MMA_F16(9, "m16n8k32", "e5m2", "e5m2")
WGMMA_F32(10, "m64n8k16", "f16", "f16", ", 0")
WGMMA_F32(11, "m64n8k16", "bf16", "bf16", ", 0")
WGMMA_F32(12, "m64n8k8", "tf32", "tf32", "")
WGMMA_F16(13, "m64n8k16", "f16", "f16", ", 0")
WGMMA_F32(14, "m64n8k32", "e4m3", "e4m3", "")
WGMMA_F32(15, "m64n8k32", "e4m3", "e5m2", "")
WGMMA_F32(16, "m64n8k32", "e5m2", "e4m3", "")
WGMMA_F32(17, "m64n8k32", "e5m2", "e5m2", "")
WGMMA_F16(18, "m64n8k32", "e4m3", "e4m3", "")
WGMMA_F16(19, "m64n8k32", "e4m3", "e5m2", "")
WGMMA_F16(20, "m64n8k32", "e5m2", "e4m3", "")
WGMMA_F16(21, "m64n8k32", "e5m2", "e5m2", "")
constexpr int INSTRUCTIONS = 22, FIRST_WGMMA = 10;

__device__ void load(F32 &c, const void *from, size_t upper, size_t lower) {
    const float *x = (const float *)from;
    c.d[0] = x[upper], c.d[1] = x[upper + 1], c.d[2] = x[lower], c.d[3] = x[lower + 1];
}
__device__ void store(const F32 &c, void *to, size_t upper, size_t lower) {
    float *x = (float *)to;
    x[upper] = c.d[0], x[upper + 1] = c.d[1], x[lower] = c.d[2], x[lower + 1] = c.d[3];
}
__device__ void load(F16 &c, const void *from, size_t upper, size_t lower) {
    const uint32_t *x = (const uint32_t *)from;
    c.d[0] = x[upper / 2], c.d[1] = x[lower / 2];
}
__device__ void store(const F16 &c, void *to, size_t upper, size_t lower) {
    uint32_t *x = (uint32_t *)to;
    x[upper / 2] = c.d[0], x[lower / 2] = c.d[1];
}

constexpr int WORDS = 8;  // of k, a step

// A is (m, k), B^T is (n, k), in words; C and D are (m, n). STEPS instructions are a chain over k.
template <int NUMBER, int STEPS>
__global__ void multiply(const uint32_t *A, const uint32_t *B, const void *C, void *D, int n) {
    using I = Instruction<NUMBER>;
    constexpr bool WG = NUMBER >= FIRST_WGMMA;
    // One core matrix of 8 columns and 16 bytes of k after the other, neither swizzled nor padded.
    __shared__ alignas(1024) uint32_t shared_b[STEPS][2][8][4];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, t = lane % 4;
    const size_t row = blockIdx.y * 64 + warp * 16 + group, column = blockIdx.x * 8;

    Operands operands[STEPS];
    for (int s = 0; s < STEPS; ++s) {
        const uint32_t *upper = A + (row * STEPS + s) * WORDS, *lower = A + ((row + 8) * STEPS + s) * WORDS;
        const uint32_t *b = B + ((column + group) * STEPS + s) * WORDS;
        Operands &o = operands[s];
        o.a[0] = upper[t], o.a[1] = lower[t], o.a[2] = upper[t + 4], o.a[3] = lower[t + 4];
        o.b[0] = b[t], o.b[1] = b[t + 4];
        if (warp == 0) shared_b[s][0][group][t] = o.b[0], shared_b[s][1][group][t] = o.b[1];
        const uint64_t address = __cvta_generic_to_shared(shared_b[s]);
        o.b_in_shared = address >> 4 | 128ull >> 4 << 16 | 128ull >> 4 << 32;
    }
    const size_t at = row * n + column + 2 * t, below = at + 8 * (size_t)n;
    typename I::Accumulator c;
    load(c, C, at, below);
    if constexpr (WG) {
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    }
#pragma unroll
    for (int s = 0; s < STEPS; ++s) I::run(c, operands[s]);
    if constexpr (WG) {
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    store(c, D, at, below);
}

// The casts of PTX, of all float32 from the pattern `first` on: 0, 1 to E4M3 and E5M2, 2, 3 to TF32.
template <int KIND> __global__ void cast(uint32_t first, void *out) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const float x = __uint_as_float(first + 2 * i), y = __uint_as_float(first + 2 * i + 1);
    if constexpr (KIND < 2) {
        uint16_t pair;  // the second operand is the lower half
        if constexpr (KIND == 0) asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(y), "f"(x));
        if constexpr (KIND == 1) asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(y), "f"(x));
        ((uint16_t *)out)[i] = pair;
    } else {
        uint32_t low, high;
        if constexpr (KIND == 2) {
            asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(low) : "f"(x));
            asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(high) : "f"(y));
        } else {
            asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(low) : "f"(x));
            asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(high) : "f"(y));
        }
        ((uint32_t *)out)[2 * i] = low, ((uint32_t *)out)[2 * i + 1] = high;
    }
}

template <int NUMBER>
static void launch(int number, int steps, const void *a, const void *b, const void *c, void *d, int m, int n) {
    if constexpr (NUMBER < INSTRUCTIONS) {
        if (number != NUMBER) return launch<NUMBER + 1>(number, steps, a, b, c, d, m, n);
        const dim3 grid(n / 8, m / 64);
        const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)b;
        if (steps == 1) multiply<NUMBER, 1><<<grid, 128>>>(x, y, c, d, n);
        if (steps == 4) multiply<NUMBER, 4><<<grid, 128>>>(x, y, c, d, n);
    }
}

template <int NUMBER> static const char *name_of(int number) {
    if constexpr (NUMBER < INSTRUCTIONS)
        return number == NUMBER ? Instruction<NUMBER>::name : name_of<NUMBER + 1>(number);
    return nullptr;
}

// Device memory that is freed with its scope.
struct Memory {
    void *at = nullptr;
    explicit Memory(size_t bytes, const void *from = nullptr) {
        if (cudaMalloc(&at, bytes) == cudaSuccess && from) cudaMemcpy(at, from, bytes, cudaMemcpyHostToDevice);
    }
    ~Memory() { cudaFree(at); }
};

extern "C" {

// Return what the instruction is called, or null beyond the last.
const char *instruction(int number) { return name_of<0>(number); }

// Run one instruction (`steps` 1 or 4 times along k) on host arrays; return 0 or a CUDA error.
int run(int number, int steps, const void *a, const void *b, const void *c, void *d, int m, int n,
        int accumulator_bytes) {
    const size_t size = (size_t)m * n * accumulator_bytes, row = (size_t)steps * WORDS * 4;
    Memory A(m * row, a), B(n * row, b), C(size, c), D(size, c);
    launch<0>(number, steps, A.at, B.at, C.at, D.at, m, n);
    if (cudaError_t error = cudaGetLastError()) return error;
    return cudaMemcpy(d, D.at, size, cudaMemcpyDeviceToHost);
}

// Cast 2^24 float32 from the pattern `first` on; return 0 or a CUDA error.
int cast_block(int kind, uint32_t first, void *out) {
    const size_t size = (1u << 24) * (kind < 2 ? 1 : 4);
    Memory result(size);
    const int blocks = (1 << 23) / 256;
    uint8_t *to = (uint8_t *)result.at;
    if (kind == 0) cast<0><<<blocks, 256>>>(first, to);
    if (kind == 1) cast<1><<<blocks, 256>>>(first, to);
    if (kind == 2) cast<2><<<blocks, 256>>>(first, to);
    if (kind == 3) cast<3><<<blocks, 256>>>(first, to);
    if (cudaError_t error = cudaGetLastError()) return error;
    return cudaMemcpy(out, to, size, cudaMemcpyDeviceToHost);
}
}
