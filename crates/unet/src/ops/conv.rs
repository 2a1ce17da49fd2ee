//! The 3 × 3 convolution of the blocks and the 1 × 1 convolution of the last layer.

use super::{dims, expect_shape, inner_dims, path, prepare, stored, tensor4, values, with_values};
use crate::kernels::conv::{self, Input};
use crate::kernels::pointwise;
use crate::{CpuPath, Result};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Shape, Tensor};

/// 3 × 3 convolution, zero padding of one pixel, no bias.
///
/// `x` is `[B, C, H, W]`, `weight` `[O, C, 3, 3]`, the result `[B, O, H, W]`.
///
/// # Errors
/// Wrong shapes, element types or devices; `SCRIBSEG_CPU` not usable.
pub fn conv3x3(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    conv3x3_on(path()?, x, weight)
}

pub(crate) fn conv3x3_on(path: CpuPath, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (x, weight) = (prepare(x, "conv3x3 input")?, prepare(weight, "conv3x3 weight")?);
    let d = dims(&x, "conv3x3 input")?;
    let outputs = weight.dims().first().copied().unwrap_or(0).max(1);
    expect_shape(&weight, "conv3x3 weight", &[outputs, d.c, 3, 3])?;
    Ok(x.apply_op2(&weight, Conv3x3(path))?)
}

struct Conv3x3(CpuPath);

impl CustomOp2 for Conv3x3 {
    fn name(&self) -> &'static str {
        "conv3x3"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let d = inner_dims(x_layout)?;
        let outputs = weight_layout.shape().dims4()?.0;
        let mut out = vec![0f32; d.channels(outputs).len()];
        let input = Input::plain(values(x, x_layout)?, d);
        conv::forward(self.0.into(), input, values(weight, weight_layout)?, outputs, &mut out);
        stored(out, d.channels(outputs))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let d = inner_dims(x.layout())?;
        let outputs = weight.dim(0)?;
        with_values(g, |g| {
            let dx = if x.track_op() {
                let mut dx = vec![0f32; d.len()];
                with_values(weight, |weight| {
                    conv::data_gradient(self.0.into(), g, weight, d, outputs, [&mut [], &mut dx]);
                    Ok(())
                })?;
                Some(tensor4(dx, d)?)
            } else {
                None
            };
            let mut dw = vec![0f32; weight.elem_count()];
            with_values(x, |x| {
                conv::weight_gradient(self.0.into(), Input::plain(x, d), g, outputs, &mut dw);
                Ok(())
            })?;
            Ok((dx, Some(Tensor::from_vec(dw, weight.shape(), &Device::Cpu)?)))
        })
    }
}

/// 1 × 1 convolution with a bias: a linear map of the channels at every pixel.
///
/// `x` is `[B, C, H, W]`, `weight` `[O, C, 1, 1]`, `bias` `[O]`, the result `[B, O, H, W]`.
///
/// # Errors
/// Wrong shapes, element types or devices; `SCRIBSEG_CPU` not usable.
pub fn conv1x1(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    conv1x1_on(path()?, x, weight, bias)
}

pub(crate) fn conv1x1_on(path: CpuPath, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (x, bias) = (prepare(x, "conv1x1 input")?, prepare(bias, "conv1x1 bias")?);
    let weight = prepare(weight, "conv1x1 weight")?;
    let d = dims(&x, "conv1x1 input")?;
    let outputs = weight.dims().first().copied().unwrap_or(0).max(1);
    expect_shape(&weight, "conv1x1 weight", &[outputs, d.c, 1, 1])?;
    expect_shape(&bias, "conv1x1 bias", &[outputs])?;
    Ok(x.apply_op3(&weight, &bias, Conv1x1(path))?)
}

struct Conv1x1(CpuPath);

impl CustomOp3 for Conv1x1 {
    fn name(&self) -> &'static str {
        "conv1x1"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let d = inner_dims(x_layout)?;
        let (weight, bias) = (values(weight, weight_layout)?, values(bias, bias_layout)?);
        let result = d.channels(bias.len());
        let mut out = vec![0f32; result.len()];
        pointwise::conv1x1(self.0, values(x, x_layout)?, weight, bias, d, &mut out);
        stored(out, result)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d = inner_dims(x.layout())?;
        let outputs = bias.elem_count();
        with_values(g, |g| {
            let dx = if x.track_op() {
                let mut dx = vec![0f32; d.len()];
                with_values(weight, |weight| {
                    pointwise::conv1x1_data_gradient(self.0, g, weight, d, &mut dx);
                    Ok(())
                })?;
                Some(tensor4(dx, d)?)
            } else {
                None
            };
            let (dw, db) =
                with_values(x, |x| Ok(pointwise::conv1x1_weight_gradient(self.0, x, g, d, outputs)))?;
            let dw = Tensor::from_vec(dw, weight.shape(), &Device::Cpu)?;
            Ok((dx, Some(dw), Some(Tensor::from_vec(db, outputs, &Device::Cpu)?)))
        })
    }
}
