// Loads and stores in both types, and the functions for activations and softmax.
namespace {

using U16 = unsigned short;

inline Vec load_vec(const void* p, Type type, long at, long left) {
  if (type == Type::kF32) {
    const float* from = static_cast<const float*>(p) + at;
    return left >= Vec::kLanes ? Vec::load(from) : Vec::load_part(from, left);
  }
  const U16* from = static_cast<const U16*>(p) + at;
  return left >= Vec::kLanes ? Vec::load_bf16(from) : Vec::load_bf16_part(from, left);
}
inline void store_vec(Vec x, void* p, Type type, long at, long left) {
  if (type == Type::kF32) {
    float* to = static_cast<float*>(p) + at;
    if (left >= Vec::kLanes) {
      x.store(to);
    } else {
      x.store_part(to, left);
    }
  } else {
    U16* to = static_cast<U16*>(p) + at;
    if (left >= Vec::kLanes) {
      x.store_bf16(to);
    } else {
      x.store_bf16_part(to, left);
    }
  }
}
inline Vec load_f32(const float* p, long at, long left) { return load_vec(p, Type::kF32, at, left); }

// exp to 2 ulp: 2^n times a polynomial in the rest (Cephes coefficients).
inline Vec exp(Vec x) {
  x = Vec::min(Vec::set(88.3f), Vec::max(Vec::set(-87.3f), x));  // in this order NaN stays NaN
  Vec n = Vec::round(x * Vec::set(1.44269504088896341f));
  Vec r = Vec::fma(n, Vec::set(-0.693359375f), x);
  r = Vec::fma(n, Vec::set(2.12194440e-4f), r);
  Vec p = Vec::set(1.9875691500e-4f);
  p = Vec::fma(p, r, Vec::set(1.3981999507e-3f));
  p = Vec::fma(p, r, Vec::set(8.3334519073e-3f));
  p = Vec::fma(p, r, Vec::set(4.1665795894e-2f));
  p = Vec::fma(p, r, Vec::set(1.6666665459e-1f));
  p = Vec::fma(p, r, Vec::set(5.0000001201e-1f));
  p = Vec::fma(p, r * r, r + Vec::set(1.0f));
  return Vec::scale2(p, n);
}
// 1 / (1 + 2^-t): 2^n times a polynomial of the fifth degree (minimax, 1.5e-7). Clamped, so that 1 + 2^-t has a
// reciprocal.
inline Vec logistic2(Vec t) {
  t = Vec::min(Vec::set(125.0f), Vec::max(Vec::set(-125.0f), t));  // in this order NaN stays NaN
  Vec n = Vec::round(t), f = n - t;
  Vec p = Vec::set(1.327647203e-3f);
  p = Vec::fma(p, f, Vec::set(9.675541480e-3f));
  p = Vec::fma(p, f, Vec::set(5.550713275e-2f));
  p = Vec::fma(p, f, Vec::set(2.402211972e-1f));
  p = Vec::fma(p, f, Vec::set(6.931469671e-1f));
  p = Vec::fma(p, f, Vec::set(1.0f));
  return Vec::reciprocal(Vec::set(1.0f) + Vec::scale2_normal(p, Vec::zero() - n));
}
// erf to 1.5e-7 (Abramowitz and Stegun 7.1.26).
inline Vec erf(Vec x) {
  Vec a = Vec::abs(x), t = Vec::set(1.0f) / Vec::fma(Vec::set(0.3275911f), a, Vec::set(1.0f));
  Vec p = Vec::set(1.061405429f);
  p = Vec::fma(p, t, Vec::set(-1.453152027f));
  p = Vec::fma(p, t, Vec::set(1.421413741f));
  p = Vec::fma(p, t, Vec::set(-0.284496736f));
  p = Vec::fma(p, t, Vec::set(0.254829592f));
  Vec y = Vec::set(1.0f) - p * t * exp(Vec::zero() - a * a);
  return Vec::with_sign(Vec::max(y, Vec::zero()), Vec::sign_of(x));
}
constexpr float kLog2E = 1.44269504088896341f;
template <Activation kActivation>
inline Vec activated(Vec x) {
  if constexpr (kActivation == Activation::kGeluTanh) {  // 0.5 x (1 + tanh u) = x sigmoid(2 u)
    constexpr float kTwice = 2 * 0.7978845608028654f * kLog2E;
    return x * logistic2(x * Vec::fma(Vec::set(0.044715f * kTwice), x * x, Vec::set(kTwice)));
  } else if constexpr (kActivation == Activation::kGeluErf) {
    return Vec::set(0.5f) * x * (Vec::set(1.0f) + erf(x * Vec::set(0.7071067811865476f)));
  } else if constexpr (kActivation == Activation::kSilu) {
    return x * logistic2(x * Vec::set(kLog2E));
  } else if constexpr (kActivation == Activation::kRelu) {
    return Vec::max(Vec::zero(), x);  // in this order NaN stays NaN
  } else {
    return x;
  }
}

// Selects the activation at compile time, so that loops keep its constants in registers.
template <Activation kActivation>
struct ActTag {
  static constexpr Activation value = kActivation;
};
template <typename Body>
inline void with_activation(Activation act, Body&& body) {
  switch (act) {
    case Activation::kGeluTanh:
      return body(ActTag<Activation::kGeluTanh>());
    case Activation::kGeluErf:
      return body(ActTag<Activation::kGeluErf>());
    case Activation::kSilu:
      return body(ActTag<Activation::kSilu>());
    case Activation::kRelu:
      return body(ActTag<Activation::kRelu>());
    default:
      return body(ActTag<Activation::kNone>());
  }
}

}  // namespace
