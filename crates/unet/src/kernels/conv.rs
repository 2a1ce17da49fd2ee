//! 3 × 3 convolution with zero padding of one pixel, its data gradient and its weight gradient.
//!
//! out[n, o, y, x] = Σ_i Σ_ky Σ_kx weight[o, i, ky, kx] · in[n, i, y + ky − 1, x + kx − 1]

use super::norm::Affine;
use super::{Dims, conv_portable};
use crate::CpuPath;

#[cfg(target_arch = "x86_64")]
use super::{conv_avx2, conv_avx512};

/// Taps of a 3 × 3 kernel.
pub(crate) const TAPS: usize = 9;

/// `out` = convolution of `input` (`d`, with `d.c` input channels) with `weight` `[outputs, d.c, 3, 3]`.
pub(crate) fn forward(
    path: CpuPath,
    input: &[f32],
    weight: &[f32],
    d: Dims,
    outputs: usize,
    out: &mut [f32],
) {
    run(path, input, weight, d, outputs, None, out);
}

/// [`forward`] with one output channel an element of `affine`, and max(0, scale·y + shift) in place of every y, while it is still in
/// the nearest caches: the same bits as a pass of its own.
pub(crate) fn forward_affine_relu(
    path: CpuPath,
    input: &[f32],
    weight: &[f32],
    d: Dims,
    affine: &[Affine],
    out: &mut [f32],
) {
    run(path, input, weight, d, affine.len(), Some(affine), out);
}

fn run(
    path: CpuPath,
    input: &[f32],
    weight: &[f32],
    d: Dims,
    outputs: usize,
    affine: Option<&[Affine]>,
    out: &mut [f32],
) {
    assert_eq!(input.len(), d.len());
    assert_eq!(weight.len(), outputs * d.c * TAPS);
    assert_eq!(out.len(), d.channels(outputs).len());
    match path {
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx512 => conv_avx512::forward(input, weight, d, outputs, affine, out),
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx2 => conv_avx2::forward(input, weight, d, outputs, affine, out),
        _ => conv_portable::forward(input, weight, d, outputs, affine, out),
    }
}

/// `d_input` (`d`) from the gradient of the output (`outputs` channels): the convolution with the kernel turned by
/// 180° and its channel axes swapped.
pub(crate) fn data_gradient(
    path: CpuPath,
    d_out: &[f32],
    weight: &[f32],
    d: Dims,
    outputs: usize,
    d_input: &mut [f32],
) {
    let turned = turn(weight, outputs, d.c);
    forward(path, d_out, &turned, d.channels(outputs), d.c, d_input);
}

/// `d_weight` `[outputs, d.c, 3, 3]` from the input (`d`) and the gradient of the output.
pub(crate) fn weight_gradient(
    path: CpuPath,
    input: &[f32],
    d_out: &[f32],
    d: Dims,
    outputs: usize,
    d_weight: &mut [f32],
) {
    assert_eq!(input.len(), d.len());
    assert_eq!(d_out.len(), d.channels(outputs).len());
    assert_eq!(d_weight.len(), outputs * d.c * TAPS);
    match path {
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx512 => conv_avx512::weight_gradient(input, d_out, d, outputs, d_weight),
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx2 => conv_avx2::weight_gradient(input, d_out, d, outputs, d_weight),
        _ => conv_portable::weight_gradient(input, d_out, d, outputs, d_weight),
    }
}

/// `[o, i, 3, 3]` → `[i, o, 3, 3]` with every kernel turned by 180°.
fn turn(weight: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let mut turned = vec![0.0; weight.len()];
    for (index, kernel) in weight.chunks_exact(TAPS).enumerate() {
        let (o, i) = (index / inputs, index % inputs);
        let target = &mut turned[(i * outputs + o) * TAPS..][..TAPS];
        for (value, &source) in target.iter_mut().zip(kernel.iter().rev()) {
            *value = source;
        }
    }
    turned
}

/// Offset of tap `k` from the centre, (dy, dx).
pub(crate) fn offset(k: usize) -> (isize, isize) {
    ((k / 3) as isize - 1, (k % 3) as isize - 1)
}
