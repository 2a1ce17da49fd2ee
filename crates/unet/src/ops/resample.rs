//! Pooling, and upsampling joined with the skip connection.

use super::{dims, expect_shape, inner_dims, path, prepare, stored, tensor4, values, with_values};
use crate::kernels::{Dims, resample};
use crate::{CpuPath, Result};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

/// Maximum over 2 × 2 windows: `[B, C, H, W]` → `[B, C, H/2, W/2]`.
///
/// The gradient of a window goes to its first maximum in reading order.
///
/// # Errors
/// Odd rows or columns; wrong element types or devices; `SCRIBSEG_CPU` not usable.
pub fn max_pool2(x: &Tensor) -> Result<Tensor> {
    max_pool2_on(path()?, x)
}

pub(crate) fn max_pool2_on(path: CpuPath, x: &Tensor) -> Result<Tensor> {
    let x = prepare(x, "max_pool2 input")?;
    let d = dims(&x, "max_pool2 input")?;
    if !d.h.is_multiple_of(2) || !d.w.is_multiple_of(2) {
        return Err(crate::Error::Shape {
            what: "max_pool2 input",
            expected: "even rows and columns".into(),
            found: x.dims().to_vec(),
        });
    }
    Ok(x.apply_op1(MaxPool2(path))?)
}

struct MaxPool2(CpuPath);

impl CustomOp1 for MaxPool2 {
    fn name(&self) -> &'static str {
        "max-pool2"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let d = inner_dims(layout)?;
        let mut out = vec![0f32; d.len() / 4];
        resample::pool(self.0, values(x, layout)?, d, &mut out);
        stored(out, Dims { h: d.h / 2, w: d.w / 2, ..d })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d = inner_dims(x.layout())?;
        let mut dx = vec![0f32; d.len()];
        with_values(x, |x| {
            with_values(g, |g| {
                resample::pool_backward_add(self.0, x, d, g, &mut dx);
                Ok(())
            })
        })?;
        Ok(Some(tensor4(dx, d)?))
    }
}

/// Doubles the rows and columns of `low` (nearest neighbour) and puts the channels of `skip` after its own.
///
/// `low` is `[B, C, H, W]`, `skip` `[B, D, 2H, 2W]`, the result `[B, C + D, 2H, 2W]`.
///
/// # Errors
/// Wrong shapes, element types or devices; `SCRIBSEG_CPU` not usable.
pub fn upsample_concat(low: &Tensor, skip: &Tensor) -> Result<Tensor> {
    upsample_concat_on(path()?, low, skip)
}

pub(crate) fn upsample_concat_on(path: CpuPath, low: &Tensor, skip: &Tensor) -> Result<Tensor> {
    let (low, skip) = (prepare(low, "upsample_concat input")?, prepare(skip, "upsample_concat skip")?);
    let d = dims(&low, "upsample_concat input")?;
    let s = dims(&skip, "upsample_concat skip")?;
    expect_shape(&skip, "upsample_concat skip", &[d.n, s.c, 2 * d.h, 2 * d.w])?;
    Ok(low.apply_op2(&skip, UpsampleConcat(path))?)
}

struct UpsampleConcat(CpuPath);

impl CustomOp2 for UpsampleConcat {
    fn name(&self) -> &'static str {
        "upsample-concat"
    }

    fn cpu_fwd(
        &self,
        low: &CpuStorage,
        low_layout: &Layout,
        skip: &CpuStorage,
        skip_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (d, s) = (inner_dims(low_layout)?, inner_dims(skip_layout)?);
        let result = s.channels(d.c + s.c);
        let mut out = vec![0f32; result.len()];
        let (low, skip) = (values(low, low_layout)?, values(skip, skip_layout)?);
        resample::upsample_concat(self.0, low, skip, d, s.c, &mut out);
        stored(out, result)
    }

    fn bwd(
        &self,
        low: &Tensor,
        skip: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (d, s) = (inner_dims(low.layout())?, inner_dims(skip.layout())?);
        let (mut d_low, mut d_skip) = (vec![0f32; d.len()], vec![0f32; s.len()]);
        with_values(g, |g| {
            resample::upsample_concat_backward(self.0, g, d, s.c, &mut d_low, &mut d_skip);
            Ok(())
        })?;
        Ok((Some(tensor4(d_low, d)?), Some(tensor4(d_skip, s)?)))
    }
}
