//! Stochastic gradient descent with momentum, and the linear learning rate of the paper.

use crate::init::lock;
use crate::ops::values;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Device, InplaceOp2, InplaceOp3, Layout, Tensor, Var};
use candle_nn::VarMap;
use std::collections::HashMap;

/// Momentum of the paper's training.
pub const MOMENTUM: f64 = 0.9;

/// Stochastic gradient descent: v ← μ·v + g + κ·p, p ← p − η·v (momentum μ, weight decay κ, learning rate η).
///
/// This is PyTorch's `SGD` with dampening 0. Variables are visited in the order of their names.
pub struct Sgd {
    slots: Vec<Slot>,
    momentum: f64,
    weight_decay: f64,
}

struct Slot {
    name: String,
    var: Var,
    velocity: Tensor,
}

impl Sgd {
    /// An optimiser at rest over every variable of `map` but the running statistics of batch norm.
    ///
    /// # Errors
    /// [`Error::Value`] if the momentum is outside [0, 1) or the weight decay is negative or not finite.
    pub fn new(map: &VarMap, momentum: f64, weight_decay: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&momentum) {
            return Err(Error::Value { what: "momentum", value: momentum, expected: "a number in [0, 1)" });
        }
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            let expected = "a finite number of at least 0";
            return Err(Error::Value { what: "weight decay", value: weight_decay, expected });
        }
        let mut named: Vec<(String, Var)> =
            lock(map.data()).iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        named.retain(|(name, _)| !name.ends_with(".running_mean") && !name.ends_with(".running_var"));
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let slots = named
            .into_iter()
            .map(|(name, var)| {
                let velocity = var.as_detached_tensor().zeros_like()?;
                Ok(Slot { name, var, velocity })
            })
            .collect::<Result<_>>()?;
        Ok(Self { slots, momentum, weight_decay })
    }

    /// One step with the gradients of `grads` at the learning rate `rate`. A variable without a gradient stays.
    ///
    /// # Errors
    /// [`Error::Value`] if the rate is negative or not finite; an error of candle if a gradient does not fit.
    pub fn step(&mut self, grads: &GradStore, rate: f64) -> Result<()> {
        if !(rate.is_finite() && rate >= 0.0) {
            let expected = "a finite number of at least 0";
            return Err(Error::Value { what: "learning rate", value: rate, expected });
        }
        for slot in &mut self.slots {
            let Some(gradient) = grads.get(slot.var.as_tensor()) else { continue };
            let parameter = slot.var.as_detached_tensor();
            if matches!(parameter.device(), Device::Cpu)
                || cfg!(feature = "cuda") && parameter.device().is_cuda()
            {
                let gradient = gradient.contiguous()?;
                let velocity =
                    Velocity { momentum: self.momentum as f32, weight_decay: self.weight_decay as f32 };
                slot.velocity.inplace_op3(&gradient, &parameter, &velocity)?;
                parameter.inplace_op2(&slot.velocity, &Descend { rate: rate as f32 })?;
            } else {
                let pull = (gradient + (&parameter * self.weight_decay)?)?;
                slot.velocity = ((&slot.velocity * self.momentum)? + pull)?.detach();
                slot.var.set(&(&parameter - (&slot.velocity * rate)?)?)?;
            }
        }
        Ok(())
    }

    /// The velocities by the names of their variables, in the order of the names: with the weights, all there is to save.
    ///
    /// # Errors
    /// An error of candle if a copy cannot be made.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        self.slots.iter().map(|s| Ok((s.name.clone(), s.velocity.copy()?))).collect()
    }

    /// Takes the velocities up again from what [`Sgd::state`] gave, in any order. Other entries of `state` are ignored.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] if one is absent or does not fit; nothing is changed then.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let by_name: HashMap<&str, &Tensor> = state.iter().map(|(name, t)| (name.as_str(), t)).collect();
        let mut loaded = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let name = slot.name.clone();
            let Some(tensor) = by_name.get(name.as_str()) else {
                return Err(Error::Missing { name, place: "the saved state of the optimiser" });
            };
            if tensor.dims() != slot.velocity.dims() {
                return Err(Error::Shape {
                    what: "saved momentum",
                    expected: format!("{:?} for {name}", slot.velocity.dims()),
                    found: tensor.dims().to_vec(),
                });
            }
            loaded.push(tensor.to_dtype(slot.velocity.dtype())?.to_device(slot.velocity.device())?.copy()?);
        }
        for (slot, velocity) in self.slots.iter_mut().zip(loaded) {
            slot.velocity = velocity;
        }
        Ok(())
    }
}

/// v ← μ·v + g + κ·p
struct Velocity {
    momentum: f32,
    weight_decay: f32,
}

impl InplaceOp3 for Velocity {
    fn name(&self) -> &'static str {
        "sgd-velocity"
    }

    fn cpu_fwd(
        &self,
        velocity: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        parameter: &CpuStorage,
        parameter_layout: &Layout,
    ) -> candle_core::Result<()> {
        let velocity = values_mut(velocity, layout)?;
        let (gradient, parameter) =
            (values(gradient, gradient_layout)?, values(parameter, parameter_layout)?);
        for ((v, &g), &p) in velocity.iter_mut().zip(gradient).zip(parameter) {
            *v = self.momentum * *v + (g + self.weight_decay * p);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        velocity: &mut candle_core::CudaStorage,
        layout: &Layout,
        gradient: &candle_core::CudaStorage,
        gradient_layout: &Layout,
        parameter: &candle_core::CudaStorage,
        parameter_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (v, g, p) = ((&*velocity, layout), (gradient, gradient_layout), (parameter, parameter_layout));
        crate::cuda::ops::velocity(v, g, p, self.momentum, self.weight_decay)
    }
}

/// p ← p − η·v
struct Descend {
    rate: f32,
}

impl InplaceOp2 for Descend {
    fn name(&self) -> &'static str {
        "sgd-descend"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        layout: &Layout,
        velocity: &CpuStorage,
        velocity_layout: &Layout,
    ) -> candle_core::Result<()> {
        for (p, &v) in values_mut(parameter, layout)?.iter_mut().zip(values(velocity, velocity_layout)?) {
            *p -= self.rate * v;
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        parameter: &mut candle_core::CudaStorage,
        layout: &Layout,
        velocity: &candle_core::CudaStorage,
        velocity_layout: &Layout,
    ) -> candle_core::Result<()> {
        crate::cuda::ops::descend((&*parameter, layout), (velocity, velocity_layout), self.rate)
    }
}

/// The values of a contiguous storage, to change them in place.
pub(crate) fn values_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a contiguous tensor is needed, found strides {:?}", layout.stride())
    };
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("f32 values are needed"),
    }
}

/// A learning rate that falls (or rises) linearly over a number of iterations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearSchedule {
    /// Rate of the first iteration.
    pub start: f64,
    /// Rate that would follow the last iteration.
    pub end: f64,
    /// Number of iterations.
    pub iterations: usize,
}

impl LinearSchedule {
    /// The paper's schedule: 0.011 → 0.
    pub fn paper(iterations: usize) -> Self {
        Self { start: 0.011, end: 0.0, iterations }
    }

    /// The rate of `iteration`, counted from 0: start + (end − start)·iteration/iterations; `end` from then on.
    pub fn rate(&self, iteration: usize) -> f64 {
        if iteration >= self.iterations {
            return self.end;
        }
        self.start + (self.end - self.start) * iteration as f64 / self.iterations as f64
    }
}
