// exp, sigmoid and tanh of vectors, accurate to about two units in the last place. NaN stays NaN.
//
// With x = n log 2 + r, |r| <= log(2) / 2, exp(x) is 2^n (1 + p(r)), where p is the Taylor series without its first term.
// log 2 is split into a high and a low part, so that r keeps its digits (Cody and Waite).
#pragma once
#include "blocked.h"

namespace activations {

using blocked::Vector;

template <typename S>
struct Float;

template <>
struct Float<float> {
  using Int = int32_t;
  static constexpr int fraction = 23, bias = 127, degree = 7;
  static constexpr float most = 87, saturated = 9.5f, log2e = 1.44269504f, log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
};

template <>
struct Float<double> {
  using Int = int64_t;
  static constexpr int fraction = 52, bias = 1023, degree = 13;
  static constexpr double most = 708, saturated = 19.5, log2e = 1.4426950408889634, log2_high = 6.93145751953125e-1,
                          log2_low = 1.42860682030941723e-6;
};

// 2^n and p(r), for x within +-Float<S>::most.
template <typename S>
inline void reduced_exp(Vector<S> x, Vector<S>& power, Vector<S>& series) {
  using F = Float<S>;
  typedef typename F::Int Int;
  typedef Int Ints __attribute__((vector_size(blocked::VECTOR_BYTES)));
  constexpr S shift = S(3) * S(Int(1) << (F::fraction - 1));  // added, it leaves the nearest integer in the last bits
  const Vector<S> shifted = x * F::log2e + shift, n = shifted - shift;
  const Vector<S> r = x - n * F::log2_high - n * F::log2_low;
  power = (Vector<S>)(((Ints)shifted + Int(F::bias)) << F::fraction);
  S coefficients[F::degree + 1] = {1, 1};
  for (int k = 2; k <= F::degree; k++) coefficients[k] = coefficients[k - 1] / S(k);
  Vector<S> sum = Vector<S>{} + coefficients[F::degree];
#pragma GCC unroll 16
  for (int k = F::degree - 1; k >= 1; k--) sum = sum * r + coefficients[k];
  series = sum * r;
}

template <typename S>
inline Vector<S> clamp(Vector<S> x, S most) {
  const Vector<S> high = Vector<S>{} + most, low = Vector<S>{} - most;
  x = x > high ? high : x;
  return x < low ? low : x;
}

template <typename S>
inline Vector<S> exp(Vector<S> x) {
  Vector<S> power, series;
  reduced_exp<S>(clamp<S>(x, Float<S>::most), power, series);
  return power + power * series;
}

template <typename S>
inline Vector<S> sigmoid(Vector<S> x) {
  return S(1) / (S(1) + exp<S>(-x));
}

// (exp(2x) - 1) / (exp(2x) + 1), without subtracting nearly equal numbers: exp(2x) - 1 is 2^n p(r) + (2^n - 1).
template <typename S>
inline Vector<S> tanh(Vector<S> x) {
  Vector<S> power, series;
  reduced_exp<S>(clamp<S>(x, Float<S>::saturated) * S(2), power, series);
  const Vector<S> less = power * series + (power - S(1));
  return less / (less + S(2));
}

}  // namespace activations
