// Products of a sparse matrix with dense columns. Knows neither torch nor threads: whoever calls divides the panels.
//
// A matrix [rows, columns] is divided into panels of rows, a panel into blocks of up to 256 columns, a block into runs: the
// active entries of one row. Values are stored run after run, block after block, panel after panel, each with its column
// inside the block in one byte. The runs of a block are in the order of their lengths, so that the processor foresees
// where they end. Dense columns are packed: a tile of them is [columns of the matrix][width], so that the part of it
// that a block reads stays in the first-level cache.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace blocked {

constexpr int64_t TILE_BYTES = 256;

// As wide as those of at::vec, which works on the same tiles; the compiler splits what the processor does not have.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16;
#else
constexpr int VECTOR_BYTES = 32;
#endif
constexpr int MOST_VECTORS = TILE_BYTES / VECTOR_BYTES;

template <typename S>
struct Lanes {
  typedef S Vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(S)), may_alias));
  static constexpr int64_t count = VECTOR_BYTES / sizeof(S);
};

template <typename S>
using Vector = typename Lanes<S>::Vector;

template <typename S>
inline Vector<S> load(const S* from) {
  return *reinterpret_cast<const Vector<S>*>(from);
}

template <typename S>
inline void store(S* to, Vector<S> value) {
  *reinterpret_cast<Vector<S>*>(to) = value;
}

struct Layout {
  int64_t rows, columns, panels, blocks, block;  // block: columns of one
  const int32_t* first;    // [panels + 1]: the first row of each panel
  const int32_t* starts;   // [rows * blocks + 1]: where each run begins
  const uint16_t* row;     // [rows * blocks]: the row of each run, inside its panel
  const uint8_t* column;   // [active]: inside the block

  int64_t runs(int64_t panel, int64_t block) const {
    return blocks * first[panel] + block * (first[panel + 1] - first[panel]);
  }
};

// acc[0] + ... += values[k] times the rows `column[k]` of x, for one run.
template <typename S, int V, int SETS>
inline void multiply_run(const S* a, const uint8_t* column, int32_t count, const S* x, Vector<S> (&acc)[SETS][V]) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
  for (; count >= 4; count -= 4, a += 4, column += 4) {
    uint32_t four;  // one load in place of four: loads are what bounds this loop
    std::memcpy(&four, column, 4);
#pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
      const S* from = x + ((four >> (24 - 8 * s)) & 255) * W;
#else
      const S* from = x + ((four >> (8 * s)) & 255) * W;
#endif
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) acc[s % SETS][v] += a[s] * load(from + v * L);
    }
  }
  for (; count; count--, a++, column++) {
    const S* from = x + *column * W;
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) acc[0][v] += *a * load(from + v * L);
  }
}

// y [rows][V * lanes], the rows of a panel = those of the matrix times x [columns][V * lanes].
template <typename S, int V>
void multiply_panel(const Layout& m, const S* values, const S* x, S* y, int64_t panel) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
  constexpr int SETS = V >= 8 ? 1 : V >= 3 ? 2 : 4;
  const int64_t count = m.first[panel + 1] - m.first[panel];
  S* rows = y + m.first[panel] * W;
  const int64_t lines = m.block * W * int64_t(sizeof(S)) / 64, ahead = (lines + count - 1) / count;
  for (int64_t b = 0; b < m.blocks; b++) {
    const int64_t runs = m.runs(panel, b);
    const S* xb = x + b * m.block * W;
    const char* next = reinterpret_cast<const char*>(xb + m.block * W);
    const int64_t left = b + 1 < m.blocks ? lines : 0;
    for (int64_t i = 0; i < count; i++) {
      for (int64_t line = i * ahead; line < (i + 1) * ahead && line < left; line++) __builtin_prefetch(next + line * 64, 0, 2);
      const int32_t start = m.starts[runs + i];
      S* out = rows + m.row[runs + i] * W;
      Vector<S> acc[SETS][V];
      for (int s = 0; s < SETS; s++)
        for (int v = 0; v < V; v++) acc[s][v] = s == 0 && b > 0 ? load(out + v * L) : Vector<S>{};
      multiply_run<S, V, SETS>(values + start, m.column + start, m.starts[runs + i + 1] - start, xb, acc);
      for (int v = 0; v < V; v++) {
        for (int s = 1; s < SETS; s++) acc[0][v] += acc[s][v];
        store(out + v * L, acc[0][v]);
      }
    }
  }
}

// to[0 ... 3] += the sums of the lanes of four vectors.
template <typename S>
inline void add_sums(S* to, const Vector<S> (&v)[4]) {
  for (int n = 0; n < 4; n++) {
    S total = 0;
    for (int i = 0; i < Lanes<S>::count; i++) total += v[n][i];
    to[n] += total;
  }
}

#if defined(__AVX__)
// The four sums side by side: two vectors become one twice, then halves are added.
inline void add_sums(float* to, const Vector<float> (&v)[4]) {
#if defined(__AVX512F__)
  const __m512 a = (__m512)v[0], b = (__m512)v[1], c = (__m512)v[2], d = (__m512)v[3];
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
#else
  const __m256 half = _mm256_hadd_ps(_mm256_hadd_ps((__m256)v[0], (__m256)v[1]), _mm256_hadd_ps((__m256)v[2], (__m256)v[3]));
#endif
  const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), sums));
}
#endif

// The products of `row` with four rows of x, summed over all but the lanes; `count` of them are asked for.
template <typename S, int V, int U>
inline void sample_four(const Layout& m, const uint8_t* column, int32_t count, const S* x, const Vector<S> (&row)[U][V],
                        Vector<S> (&acc)[4]) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
#pragma GCC unroll 4
  for (int n = 0; n < 4; n++) {
    const S* from = x + column[n < count ? n : 0] * W;
    acc[n] = row[0][0] * load(from);
#pragma GCC unroll 4
    for (int u = 0; u < U; u++)
#pragma GCC unroll 16
      for (int v = u ? 0 : 1; v < V; v++) acc[n] += row[u][v] * load(from + u * m.columns * W + v * L);
  }
}

// gradient [active] += g [rows][V * lanes] times x [columns][V * lanes] transposed at the active entries of a panel,
// for U consecutive tiles of both.
template <typename S, int V, int U>
void sample_panel(const Layout& m, S* gradient, const S* g, const S* x, int64_t panel) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
  const int64_t row0 = m.first[panel], count = m.first[panel + 1] - row0;
  for (int64_t b = 0; b < m.blocks; b++) {
    const int64_t runs = m.runs(panel, b);
    for (int64_t i = 0; i < count; i++) {
      const int32_t begin = m.starts[runs + i], end = m.starts[runs + i + 1];
      if (begin == end) continue;
      Vector<S> row[U][V];
      for (int u = 0; u < U; u++)
        for (int v = 0; v < V; v++) row[u][v] = load(g + (u * m.rows + row0 + m.row[runs + i]) * W + v * L);
      int32_t k = begin;
      for (; k + 4 <= end; k += 4) {
        Vector<S> acc[4];
        sample_four<S, V, U>(m, m.column + k, 4, x + b * m.block * W, row, acc);
        add_sums(gradient + k, acc);
      }
      if (k < end) {
        Vector<S> acc[4];
        S rest[4] = {0, 0, 0, 0};
        sample_four<S, V, U>(m, m.column + k, end - k, x + b * m.block * W, row, acc);
        add_sums(rest, acc);
        for (int n = 0; n < end - k; n++) gradient[k + n] += rest[n];
      }
    }
  }
}

}  // namespace blocked
