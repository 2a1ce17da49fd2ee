//! Gradient noise with the eight corners of a cell in one register of AVX2: the arithmetic of [`Noise`](crate::noise::Noise), operation by operation, and so the
//! same bits. No fused multiply-add.

use crate::noise::{GRADIENTS, PRIMES, Point, UNIT};
use std::arch::x86_64::*;

/// One axis of the gradients, of eight from `first` on.
const fn axis(axis: usize, first: usize) -> [f32; 8] {
    let mut of = [0.0; 8];
    let mut n = 0;
    while n < 8 {
        of[n] = GRADIENTS[first + n][axis];
        n += 1;
    }
    of
}

#[inline]
#[target_feature(enable = "avx2")]
fn eight([a, b, c, d, e, f, g, h]: [f32; 8]) -> __m256 {
    _mm256_setr_ps(a, b, c, d, e, f, g, h)
}

/// One value in all places.
#[inline]
#[target_feature(enable = "avx2")]
fn all<const AXIS: i32>(v: __m128) -> __m256 {
    _mm256_broadcastss_ps(_mm_permute_ps::<AXIS>(v))
}

/// a + w·(b − a)
#[inline]
#[target_feature(enable = "avx2")]
fn mix(a: __m256, b: __m256, w: __m256) -> __m256 {
    _mm256_add_ps(a, _mm256_mul_ps(w, _mm256_sub_ps(b, a)))
}

/// Components of corners, and the corners of `hash` that they are one of: of sixteen, the lower or the upper eight.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up(hash: __m256i, low: [f32; 8], high: [f32; 8]) -> __m256 {
    let (low, high) =
        (_mm256_permutevar8x32_ps(eight(low), hash), _mm256_permutevar8x32_ps(eight(high), hash));
    _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(hash)))
}

/// A cell: gradients by axis, ramps, and the position in it.
struct Cell {
    g: [__m256; 3],
    ramp: __m256,
    t: __m128,
}

#[inline]
#[target_feature(enable = "avx2")]
fn cell(seed: u32, frequency: f32, p: Point) -> Cell {
    let p = _mm_setr_ps(p[0], p[1], p[2], 0.0);
    let q = _mm_add_ps(_mm_mul_ps(p, _mm_set1_ps(frequency)), _mm_setr_ps(0.37, 0.61, 0.23, 0.0));
    let whole = _mm_floor_ps(q);
    let t = _mm_sub_ps(q, whole);
    let [x, y, z] = [PRIMES[0] as i32, PRIMES[1] as i32, PRIMES[2] as i32];
    let keys = _mm_castsi128_ps(_mm_mullo_epi32(_mm_cvttps_epi32(whole), _mm_setr_epi32(x, y, z, 0)));
    let x = _mm256_add_epi32(
        _mm256_castps_si256(all::<0b00_00_00_00>(keys)),
        _mm256_setr_epi32(0, x, 0, x, 0, x, 0, x),
    );
    let y = _mm256_add_epi32(
        _mm256_castps_si256(all::<0b01_01_01_01>(keys)),
        _mm256_setr_epi32(0, 0, y, y, 0, 0, y, y),
    );
    let z = _mm256_add_epi32(
        _mm256_castps_si256(all::<0b10_10_10_10>(keys)),
        _mm256_setr_epi32(0, 0, 0, 0, z, z, z, z),
    );
    let mut h = _mm256_xor_si256(_mm256_xor_si256(_mm256_set1_epi32(seed as i32), x), _mm256_xor_si256(y, z));
    h = _mm256_mullo_epi32(_mm256_xor_si256(h, _mm256_srli_epi32::<15>(h)), _mm256_set1_epi32(0x2C1B_3C6D));
    h = _mm256_mullo_epi32(_mm256_xor_si256(h, _mm256_srli_epi32::<12>(h)), _mm256_set1_epi32(0x297A_2D39));
    h = _mm256_xor_si256(h, _mm256_srli_epi32::<15>(h));
    let g = [
        look_up(h, const { axis(0, 0) }, const { axis(0, 8) }),
        look_up(h, const { axis(1, 0) }, const { axis(1, 8) }),
        look_up(h, const { axis(2, 0) }, const { axis(2, 8) }),
    ];
    let x = _mm256_sub_ps(all::<0b00_00_00_00>(t), eight([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]));
    let y = _mm256_sub_ps(all::<0b01_01_01_01>(t), eight([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]));
    let z = _mm256_sub_ps(all::<0b10_10_10_10>(t), eight([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]));
    let first = _mm256_add_ps(_mm256_mul_ps(g[0], x), _mm256_mul_ps(g[1], y));
    Cell { g, ramp: _mm256_add_ps(first, _mm256_mul_ps(g[2], z)), t }
}

/// Quintic fade.
#[inline]
#[target_feature(enable = "avx2")]
fn fade(t: __m128) -> __m128 {
    let cube = _mm_mul_ps(_mm_mul_ps(t, t), t);
    let inner = _mm_sub_ps(_mm_mul_ps(t, _mm_set1_ps(6.0)), _mm_set1_ps(15.0));
    _mm_mul_ps(cube, _mm_add_ps(_mm_mul_ps(t, inner), _mm_set1_ps(10.0)))
}

/// The slope of the fade.
#[inline]
#[target_feature(enable = "avx2")]
fn slope(t: __m128) -> __m128 {
    let square = _mm_mul_ps(_mm_mul_ps(_mm_set1_ps(30.0), t), t);
    let inner = _mm_mul_ps(t, _mm_sub_ps(t, _mm_set1_ps(2.0)));
    _mm_mul_ps(square, _mm_add_ps(inner, _mm_set1_ps(1.0)))
}

/// Values at even and at odd corners, twice each.
#[inline]
#[target_feature(enable = "avx2")]
fn along_x(v: __m256) -> [__m256; 2] {
    [_mm256_moveldup_ps(v), _mm256_movehdup_ps(v)]
}

/// Interpolates places 0 and 1 (or `FROM` and `TO` in their stead) of each half by `u`, then the halves by `v`.
#[inline]
#[target_feature(enable = "avx2")]
fn over_two<const FROM: i32, const TO: i32>(e: __m256, u: __m256, v: __m256) -> f32 {
    let y = mix(_mm256_permute_ps::<FROM>(e), _mm256_permute_ps::<TO>(e), u);
    let other = _mm256_castps128_ps256(_mm256_extractf128_ps::<1>(y));
    _mm256_cvtss_f32(mix(y, other, v))
}

/// Interpolates over all three axes.
#[inline]
#[target_feature(enable = "avx2")]
fn trilinear(values: __m256, [u, v, w]: [__m256; 3]) -> f32 {
    let [even, odd] = along_x(values);
    over_two::<0b00_00_00_00, 0b10_10_10_10>(mix(even, odd, u), v, w)
}

#[inline]
#[target_feature(enable = "avx2")]
fn weights(t: __m128) -> [__m256; 3] {
    let w = fade(t);
    [all::<0b00_00_00_00>(w), all::<0b01_01_01_01>(w), all::<0b10_10_10_10>(w)]
}

/// [`Noise::at`](crate::noise::Noise::at)
#[target_feature(enable = "avx2")]
pub(crate) fn value(seed: u32, frequency: f32, p: Point) -> f32 {
    let Cell { ramp, t, .. } = cell(seed, frequency, p);
    UNIT * trilinear(ramp, weights(t))
}

/// [`Noise::with_gradient`](crate::noise::Noise::with_gradient)
#[target_feature(enable = "avx2")]
pub(crate) fn value_and_gradient(seed: u32, frequency: f32, p: Point) -> (f32, Point) {
    let Cell { g, ramp, t } = cell(seed, frequency, p);
    let w = weights(t);
    let [even, odd] = along_x(ramp);
    let x = over_two::<0b00_00_00_00, 0b10_10_10_10>(_mm256_sub_ps(odd, even), w[1], w[2]);
    let y = _mm256_sub_ps(_mm256_permute_ps::<0b11_10_11_10>(ramp), ramp);
    let y = over_two::<0b00_00_00_00, 0b01_01_01_01>(y, w[0], w[2]);
    let z = _mm256_sub_ps(_mm256_castps128_ps256(_mm256_extractf128_ps::<1>(ramp)), ramp);
    let [low, high] = along_x(z);
    let z = mix(low, high, w[0]);
    let z = _mm256_cvtss_f32(mix(z, _mm256_permute_ps::<0b10_10_10_10>(z), w[1]));
    let d = slope(t);
    let d = [
        _mm_cvtss_f32(d),
        _mm_cvtss_f32(_mm_permute_ps::<0b01_01_01_01>(d)),
        _mm_cvtss_f32(_mm_permute_ps::<0b10_10_10_10>(d)),
    ];
    let k = UNIT * frequency;
    let gradient = [
        k * (trilinear(g[0], w) + d[0] * x),
        k * (trilinear(g[1], w) + d[1] * y),
        k * (trilinear(g[2], w) + d[2] * z),
    ];
    (UNIT * trilinear(ramp, w), gradient)
}
