// Loops over time. The leaky trace (see _trace.py), and the recurrent core of the leaky memory neuron: what is left once
// everything that can be worked out for all times at once has been. See recurrence.py, which holds the same equations in
// torch and is the fallback.
//
//   z_t = drive_t + n_{t-1} A,   h_t = max(z_t, 0),   u_t = tanh(b + h_t W),   n_t = n_{t-1} + rate (u_t - n_{t-1})
//
// Arrays are (batch, time, unit), contiguous. The last axis of weights is padded with zeros to whole vectors (32 bytes).
// Rows of a batch do not depend on each other: a few of them go through all of time together, so that weights and state
// stay in the nearest caches and each weight that is read serves all of them.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef float float_lanes __attribute__((vector_size(32)));
typedef double double_lanes __attribute__((vector_size(32)));
typedef int32_t int_lanes __attribute__((vector_size(32)));

template <typename T> struct Lanes;
template <> struct Lanes<float> { typedef float_lanes type; enum { n = 8 }; };
template <> struct Lanes<double> { typedef double_lanes type; enum { n = 4 }; };

template <typename T> static inline typename Lanes<T>::type load(const T *from) {
    typename Lanes<T>::type value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <typename T> static inline void store(T *to, typename Lanes<T>::type value) { std::memcpy(to, &value, sizeof value); }

// exp(2x) by splitting off powers of two; near zero the series, where the quotient would lose digits. NaN stays NaN.
static inline float_lanes hyperbolic_tangent(float_lanes x) {
    const float_lanes zero = {}, one = zero + 1.0f;
    float_lanes y = 2.0f * x;
    y = y > 20.0f ? zero + 20.0f : y;
    y = y < -20.0f ? zero - 20.0f : y;
    const int_lanes whole = __builtin_convertvector(y * 1.44269504f + (y < 0.0f ? zero - 0.5f : zero + 0.5f), int_lanes);
    const float_lanes n = __builtin_convertvector(whole, float_lanes);
    const float_lanes r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float_lanes p = one / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const int_lanes bits = (whole + 127) << 23;
    float_lanes scale;
    std::memcpy(&scale, &bits, sizeof scale);
    const float_lanes e = p * scale, x2 = x * x;
    const float_lanes series = x * (1.0f + x2 * (-1.0f / 3.0f + x2 * (2.0f / 15.0f - x2 * (17.0f / 315.0f))));
    return x2 < 0.04f ? series : (e - 1.0f) / (e + 1.0f);
}

static inline double_lanes hyperbolic_tangent(double_lanes x) {
    for (int i = 0; i < Lanes<double>::n; ++i) x[i] = std::tanh(x[i]);
    return x;
}

// Some columns of out[row, :] += in[row, :] @ weights, for R rows: V vectors from column j on, which stay in registers.
template <typename T, int R, int V>
static inline void add_columns(const T *in, int64_t in_stride, int64_t n_in, const T *weights, T *out, int64_t n_out,
                               int64_t j) {
    typename Lanes<T>::type sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = load<T>(out + r * n_out + j + v * Lanes<T>::n);
    for (int64_t k = 0; k < n_in; ++k) {
        typename Lanes<T>::type w[V];
        for (int v = 0; v < V; ++v) w[v] = load<T>(weights + k * n_out + j + v * Lanes<T>::n);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) sum[r][v] += in[r * in_stride + k] * w[v];
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store<T>(out + r * n_out + j + v * Lanes<T>::n, sum[r][v]);
}

template <typename T, int R>
static inline void add_product(const T *in, int64_t in_stride, int64_t n_in, const T *weights, T *out, int64_t n_out) {
    int64_t j = 0;
    for (; j + 2 * Lanes<T>::n <= n_out; j += 2 * Lanes<T>::n) add_columns<T, R, 2>(in, in_stride, n_in, weights, out, n_out, j);
    for (; j < n_out; j += Lanes<T>::n) add_columns<T, R, 1>(in, in_stride, n_in, weights, out, n_out, j);
}

struct Sizes {
    int64_t times, hidden, memory, hidden_padded, memory_padded;
};

template <typename T, int R>
static void forward_rows(const Sizes s, int64_t row, const T *drive, const T *start, const T *a, const T *w, const T *b,
                         const T *rate, T *memory, T *hidden, T *proposal) {
    const typename Lanes<T>::type zero = {};
    std::vector<T> h(R * s.hidden_padded), n(R * s.memory_padded), u(R * s.memory_padded);
    for (int r = 0; r < R; ++r)
        std::memcpy(&n[r * s.memory_padded], start + (row + r) * s.memory, s.memory * sizeof(T));
    for (int64_t t = 0; t < s.times; ++t) {
        const int64_t at = row * s.times + t;
        for (int r = 0; r < R; ++r)
            std::memcpy(&h[r * s.hidden_padded], drive + (at + r * s.times) * s.hidden, s.hidden * sizeof(T));
        add_product<T, R>(n.data(), s.memory_padded, s.memory, a, h.data(), s.hidden_padded);
        for (int64_t j = 0; j < R * s.hidden_padded; j += Lanes<T>::n) {
            const typename Lanes<T>::type z = load<T>(&h[j]);
            store<T>(&h[j], z < zero ? zero : z);
        }
        for (int r = 0; r < R; ++r) std::memcpy(&u[r * s.memory_padded], b, s.memory_padded * sizeof(T));
        add_product<T, R>(h.data(), s.hidden_padded, s.hidden, w, u.data(), s.memory_padded);
        for (int r = 0; r < R; ++r)
            for (int64_t j = 0; j < s.memory_padded; j += Lanes<T>::n) {
                const int64_t i = r * s.memory_padded + j;
                const typename Lanes<T>::type now = load<T>(&n[i]), next = hyperbolic_tangent(load<T>(&u[i]));
                store<T>(&u[i], next);
                store<T>(&n[i], now + load<T>(rate + j) * (next - now));
            }
        for (int r = 0; r < R; ++r) {
            std::memcpy(memory + (at + r * s.times) * s.memory, &n[r * s.memory_padded], s.memory * sizeof(T));
            if (!hidden) continue;
            std::memcpy(hidden + (at + r * s.times) * s.hidden, &h[r * s.hidden_padded], s.hidden * sizeof(T));
            std::memcpy(proposal + (at + r * s.times) * s.memory, &u[r * s.memory_padded], s.memory * sizeof(T));
        }
    }
}

// Backwards in time: `total` is the gradient of n_t from everything after it, `through` the gradient of z_t.
template <typename T, int R>
static void backward_rows(const Sizes s, int64_t row, const T *given, const T *slope, const T *hidden, const T *a, const T *w,
                          const T *keep, T *total, T *through, T *start) {
    std::vector<T> g(R * s.memory_padded), go(R * s.memory_padded), gz(R * s.hidden_padded);
    for (int64_t t = s.times - 1; t >= 0; --t) {
        const int64_t at = row * s.times + t;
        for (int r = 0; r < R; ++r) {
            T *gr = &g[r * s.memory_padded], *gor = &go[r * s.memory_padded], *out = total + (at + r * s.times) * s.memory;
            const T *from = given + (at + r * s.times) * s.memory, *sl = slope + (at + r * s.times) * s.memory;
            for (int64_t j = 0; j < s.memory; ++j) {
                out[j] = gr[j] + from[j];
                gor[j] = out[j] * sl[j];
                gr[j] = out[j] * keep[j];
            }
        }
        std::memset(gz.data(), 0, gz.size() * sizeof(T));
        add_product<T, R>(go.data(), s.memory_padded, s.memory, w, gz.data(), s.hidden_padded);
        for (int r = 0; r < R; ++r) {
            T *gzr = &gz[r * s.hidden_padded], *out = through + (at + r * s.times) * s.hidden;
            const T *h = hidden + (at + r * s.times) * s.hidden;
            for (int64_t j = 0; j < s.hidden; ++j) out[j] = gzr[j] = h[j] <= (T)0 ? (T)0 : gzr[j];
        }
        add_product<T, R>(gz.data(), s.hidden_padded, s.hidden, a, g.data(), s.memory_padded);
    }
    for (int r = 0; r < R; ++r) std::memcpy(start + (row + r) * s.memory, &g[r * s.memory_padded], s.memory * sizeof(T));
}

// y_t = decay y_{t-1} + x_t, with a decay a unit.
template <typename T>
static void trace(const int64_t *s, int64_t first, int64_t last, const T *decay, const T *initial, const T *x, T *y) {
    const int64_t times = s[0], units = s[1];
    for (int64_t row = first; row < last; ++row) {
        const T *before = initial ? initial + row * units : nullptr;
        for (int64_t t = 0; t < times; ++t) {
            const int64_t at = (row * times + t) * units;
            const T *__restrict past = before, *__restrict from = x + at;
            T *__restrict to = y + at;
            if (past)
                for (int64_t j = 0; j < units; ++j) to[j] = from[j] + decay[j] * past[j];
            else
                std::memcpy(to, from, units * sizeof(T));
            before = to;
        }
    }
}

#if defined(__AVX512VL__) || defined(__aarch64__) // 32 registers for vectors
#define MOST 8
#else
#define MOST 4
#endif

#define BY_ROWS(call)                                                   \
    do {                                                                \
        for (; row + MOST <= last; row += MOST) call<T, MOST> ARGUMENTS; \
        for (; row + 4 <= last; row += 4) call<T, 4> ARGUMENTS;         \
        for (; row < last; ++row) call<T, 1> ARGUMENTS;                 \
    } while (0)

template <typename T>
static void forward(const Sizes s, int64_t row, int64_t last, const T *drive, const T *start, const T *a, const T *w, const T *b,
                    const T *rate, T *memory, T *hidden, T *proposal) {
#define ARGUMENTS (s, row, drive, start, a, w, b, rate, memory, hidden, proposal)
    BY_ROWS(forward_rows);
#undef ARGUMENTS
}

template <typename T>
static void backward(const Sizes s, int64_t row, int64_t last, const T *given, const T *slope, const T *hidden, const T *a,
                     const T *w, const T *keep, T *total, T *through, T *start) {
#define ARGUMENTS (s, row, given, slope, hidden, a, w, keep, total, through, start)
    BY_ROWS(backward_rows);
#undef ARGUMENTS
}

#define EXPORT(T)                                                                                                      \
    extern "C" void forward_##T(const int64_t *s, int64_t first, int64_t last, const T *drive, const T *start, const T *a,      \
                                const T *w, const T *b, const T *rate, T *memory, T *hidden, T *proposal) {            \
        forward<T>(Sizes{s[0], s[1], s[2], s[3], s[4]}, first, last, drive, start, a, w, b, rate, memory,        \
                   hidden, proposal);                                                                                  \
    }                                                                                                                  \
    extern "C" void backward_##T(const int64_t *s, int64_t first, int64_t last, const T *given, const T *slope,                 \
                                 const T *hidden, const T *a, const T *w, const T *keep, T *total, T *through,         \
                                 T *start) {                                                                           \
        backward<T>(Sizes{s[0], s[1], s[2], s[3], s[4]}, first, last, given, slope, hidden, a, w, keep, total,   \
                    through, start);                                                                                   \
    }                                                                                                                  \
    extern "C" void trace_##T(const int64_t *s, int64_t first, int64_t last, const T *decay, const T *initial,         \
                              const T *x, T *y) {                                                                      \
        trace<T>(s, first, last, decay, initial, x, y);                                                                \
    }

EXPORT(float)
EXPORT(double)
