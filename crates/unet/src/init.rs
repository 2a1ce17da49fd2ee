//! Starting values from a seeded generator, and the change of the last layer between the two phases.

use crate::config::{Config, Parameter, ParameterKind};
use crate::{Error, Result};
use candle_core::{Device, Tensor, Var};
use candle_nn::VarMap;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// A fresh network: He-normal kernels (variance 2/fan-in), batch norm at scale 1 and shift 0, a zero bias.
///
/// The values depend on the generator alone, never on the device. The map holds every name of
/// [`Config::parameters`], the running statistics included.
///
/// # Errors
/// [`Error::Config`] if `config` is not valid; an error of candle if the device is out of memory.
pub fn init(config: &Config, rng: &mut impl Rng, device: &Device) -> Result<VarMap> {
    config.validate()?;
    let map = VarMap::new();
    for parameter in config.parameters() {
        let tensor = start_value(&parameter, rng, device)?;
        insert(&map, parameter.name, &tensor)?;
    }
    Ok(map)
}

/// A copy of `source` whose last layer is new and has `out_channels` outputs.
///
/// This is how the sub-structure network starts from the whole-tumour network. Nothing is shared with `source`:
/// training one leaves the other alone. Returns the new configuration with the new variables.
///
/// # Errors
/// [`Error::Config`] if a count is not valid; [`Error::Missing`] or [`Error::Shape`] if `source` does not fit `config`.
pub fn replace_head(
    source: &VarMap,
    config: &Config,
    out_channels: usize,
    rng: &mut impl Rng,
) -> Result<(Config, VarMap)> {
    config.validate()?;
    let new_config = Config { out_channels, ..*config };
    new_config.validate()?;
    let map = VarMap::new();
    for parameter in new_config.parameters() {
        let tensor = if parameter.name.starts_with("head.") {
            let device = find(source, "enc0.conv1.weight")?.device().clone();
            start_value(&parameter, rng, &device)?
        } else {
            let tensor = find(source, &parameter.name)?;
            if tensor.dims() != parameter.shape {
                return Err(Error::Shape {
                    what: "parameter of the network to start from",
                    expected: format!("{:?} for {}", parameter.shape, parameter.name),
                    found: tensor.dims().to_vec(),
                });
            }
            tensor.copy()?
        };
        insert(&map, parameter.name, &tensor)?;
    }
    Ok((new_config, map))
}

fn start_value(parameter: &Parameter, rng: &mut impl Rng, device: &Device) -> Result<Tensor> {
    let count: usize = parameter.shape.iter().product();
    let fan_in: usize = parameter.shape.iter().skip(1).product();
    let mut normal = |variance: f64| -> Vec<f32> {
        let deviation = variance.sqrt();
        (0..count).map(|_| (rng.sample::<f64, _>(StandardNormal) * deviation) as f32).collect()
    };
    let values = match parameter.kind {
        ParameterKind::Kernel => normal(2.0 / fan_in as f64),
        ParameterKind::HeadKernel => normal(1.0 / fan_in as f64),
        ParameterKind::Bias | ParameterKind::RunningMean => vec![0.0; count],
        ParameterKind::Scale | ParameterKind::RunningVariance => vec![1.0; count],
    };
    Ok(Tensor::from_vec(values, parameter.shape.as_slice(), device)?)
}

/// A lock poisoned by a panic elsewhere still guards plain data.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn insert(map: &VarMap, name: String, tensor: &Tensor) -> Result<()> {
    let var = Var::from_tensor(tensor)?;
    lock(map.data()).insert(name, var);
    Ok(())
}

fn find(map: &VarMap, name: &str) -> Result<Tensor> {
    let found = lock(map.data()).get(name).map(|var| var.as_detached_tensor());
    found.ok_or_else(|| Error::Missing { name: name.into(), place: "the network to start from" })
}
