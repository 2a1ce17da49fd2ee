//! The four seams where a crate can be swapped, each a small trait, and the paper's choice behind each.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use ndarray::{Array3, ArrayView3};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scribseg_crf_kernels::{CpuPath, Exact, Features, Lattice, PairwiseKernel, Quality};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::scan::Scan;

/// Grows scribbles into weak masks G.
pub trait SeedExpansion: Sync + Send {
    /// Scribbles `[z, y, x]` (0 unknown, 1 tumour, 2 healthy) to weak labels of the same kind.
    ///
    /// # Errors
    /// When the scan or the scribbles do not suffice.
    fn expand(&self, scan: &Scan, scribble: ArrayView3<'_, u8>) -> Result<Array3<u8>>;
}

/// Divides a whole tumour into sub-structures by the presence labels.
pub trait SubStructures: Sync + Send {
    /// Codes 1 NCR/NET, 2 ED, 3 ET inside `tumour`, 0 outside.
    ///
    /// # Errors
    /// When the scan is unusable.
    fn label(
        &self,
        scan: &Scan,
        tumour: ArrayView3<'_, bool>,
        presence: scribseg_io::Presence,
        seed: u64,
    ) -> Result<Array3<u8>>;
}

/// Builds the pairwise kernel W of eq. 2 for one slice.
pub trait PairwiseLoss: Sync + Send {
    /// `features`: planar `[channel][y][x]` intensities on the 0–255 scale of one slice of `height` × `width`
    /// pixels of `pixel_mm` `[y, x]`.
    ///
    /// # Errors
    /// When the features are not finite or out of the kernel's range.
    fn kernel(
        &self,
        features: &[f32],
        height: usize,
        width: usize,
        pixel_mm: [f64; 2],
    ) -> Result<Arc<dyn PairwiseKernel>>;

    /// The same for a loss of tensors on `device`; there as here unless a kernel has to be there.
    ///
    /// # Errors
    /// As [`kernel`](Self::kernel), and when the device refuses.
    fn kernel_on(
        &self,
        device: &Device,
        features: &[f32],
        height: usize,
        width: usize,
        pixel_mm: [f64; 2],
    ) -> Result<Arc<dyn PairwiseKernel>> {
        let _ = device;
        self.kernel(features, height, width, pixel_mm)
    }
}

/// A network with loaded weights.
pub trait Segmenter: Sync {
    /// Logits `[B, K, H, W]` of `images` `[B, C, H, W]`; `train` uses and updates batch statistics.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn logits(&self, images: &Tensor, train: bool) -> Result<Tensor>;
    /// A training pass: logits with the batch's statistics, and the way back from a loss.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn pass(&self, images: &Tensor) -> Result<Box<dyn Pass>> {
        Ok(Box::new(Recorded(self.logits(images, true)?)))
    }
}

/// A training pass of a [`Segmenter`].
pub trait Pass {
    /// Logits `[B, K, H, W]`.
    fn logits(&self) -> &Tensor;
    /// The gradients of a loss over the logits by the network's variables.
    ///
    /// # Errors
    /// When the loss does not depend on the logits.
    fn gradients(&self, loss: &Tensor) -> Result<GradStore>;
}

/// A pass that candle has a record of.
struct Recorded(Tensor);

impl Pass for Recorded {
    fn logits(&self) -> &Tensor {
        &self.0
    }

    fn gradients(&self, loss: &Tensor) -> Result<GradStore> {
        Ok(loss.backward()?)
    }
}

/// Makes networks.
pub trait SegmenterFactory: Sync + Send {
    /// Side lengths must be a multiple of this.
    fn stride(&self) -> usize;
    /// Fresh weights for `outputs` classes.
    ///
    /// # Errors
    /// When the device refuses.
    fn init(&self, outputs: usize, seed: u64, device: &Device) -> Result<VarMap>;
    /// A network over the variables of `weights`.
    ///
    /// # Errors
    /// When a variable is missing or of another shape.
    fn load(&self, outputs: usize, weights: &VarMap, device: &Device) -> Result<Box<dyn Segmenter>>;
}

/// One choice for each seam.
pub struct Methods {
    /// Scribbles → G.
    pub seeds: Box<dyn SeedExpansion>,
    /// Whole tumour → sub-structures.
    pub substructures: Box<dyn SubStructures>,
    /// The CRF's kernel.
    pub pairwise: Box<dyn PairwiseLoss>,
    /// The network.
    pub network: Box<dyn SegmenterFactory>,
}

impl Methods {
    /// The paper's methods with the values of `config`.
    pub fn paper(config: &Config) -> Self {
        Self {
            seeds: Box::new(GraphCut {
                params: scribseg_graphcut::Params::for_channels(
                    &channels(&config.graphcut.supervoxel_channels),
                    &channels(&config.graphcut.model_channels),
                ),
            }),
            substructures: clustering(&config.cluster.method, config),
            pairwise: Box::new(Bilateral {
                sigma_xy_mm: config.crf.sigma_xy_mm,
                sigma_intensity: config.crf.sigma_intensity,
                kernel: config.crf.kernel.clone(),
                #[cfg(feature = "cuda")]
                cuda: std::sync::Mutex::new(None),
            }),
            network: Box::new(UNetFactory {
                width: config.network.width,
                depth: config.network.depth,
                precision: config.network.precision.clone(),
            }),
        }
    }
}

/// Indices of modalities by name.
fn channels(names: &[String]) -> Vec<usize> {
    names.iter().filter_map(|c| crate::MODALITIES.iter().position(|m| m == c)).collect()
}

struct GraphCut {
    params: scribseg_graphcut::Params,
}

impl SeedExpansion for GraphCut {
    fn expand(&self, scan: &Scan, scribble: ArrayView3<'_, u8>) -> Result<Array3<u8>> {
        scribseg_graphcut::propagate(
            scan.image.view(),
            scan.brain.view(),
            scribble,
            scan.spacing,
            &self.params,
        )
        .map(|outcome| outcome.weak)
        .map_err(|e| Error::case(&scan.id, e))
    }
}

/// The clustering of that name; the paper's k-means unless it is `mixture`.
pub(crate) fn clustering(method: &str, config: &Config) -> Box<dyn SubStructures> {
    Box::new(Clustering(match method {
        "mixture" => Box::new(scribseg_cluster::Mixture),
        _ => Box::new(scribseg_cluster::KMeans(scribseg_cluster::Params {
            restarts: config.cluster.restarts,
            ..scribseg_cluster::Params::default()
        })),
    }))
}

struct Clustering(Box<dyn scribseg_cluster::Method>);

impl SubStructures for Clustering {
    fn label(
        &self,
        scan: &Scan,
        tumour: ArrayView3<'_, bool>,
        presence: scribseg_io::Presence,
        seed: u64,
    ) -> Result<Array3<u8>> {
        let presence = scribseg_cluster::Presence { ncr: presence.ncr, ed: presence.ed, et: presence.et };
        let (modalities, spacing) = (scan.image.view(), scan.spacing);
        let input = scribseg_cluster::Input { modalities, wt: tumour, presence, spacing };
        self.0.divide(&input, seed).map(|c| c.labels).map_err(|e| Error::case(&scan.id, e))
    }
}

struct UNetFactory {
    width: usize,
    depth: usize,
    precision: String,
}

impl UNetFactory {
    fn config(&self, outputs: usize) -> scribseg_unet::Config {
        scribseg_unet::Config {
            in_channels: crate::MODALITIES.len(),
            out_channels: outputs,
            width: self.width,
            depth: self.depth,
        }
    }
}

impl SegmenterFactory for UNetFactory {
    fn stride(&self) -> usize {
        1 << self.depth
    }

    fn init(&self, outputs: usize, seed: u64, device: &Device) -> Result<VarMap> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        scribseg_unet::init(&self.config(outputs), &mut rng, device)
            .map_err(|e| Error::Network(e.to_string()))
    }

    fn load(&self, outputs: usize, weights: &VarMap, device: &Device) -> Result<Box<dyn Segmenter>> {
        let vb = VarBuilder::from_varmap(weights, candle_core::DType::F32, device);
        let fault = |e: scribseg_unet::Error| Error::Network(e.to_string());
        let precision = self.precision.parse().map_err(fault)?;
        scribseg_unet::check_device(device, precision).map_err(fault)?;
        let net = scribseg_unet::UNet::load(&self.config(outputs), vb).map_err(fault)?;
        Ok(Box::new(Net(net.with_precision(precision))))
    }
}

struct Net(scribseg_unet::UNet);

impl Segmenter for Net {
    fn logits(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self.0.forward(images, train).map_err(|e| Error::Network(e.to_string()))
    }

    fn pass(&self, images: &Tensor) -> Result<Box<dyn Pass>> {
        let pass = self.0.pass(images).map_err(|e| Error::Network(e.to_string()))?;
        Ok(Box::new(pass))
    }
}

impl Pass for scribseg_unet::Pass {
    fn logits(&self) -> &Tensor {
        self.logits()
    }

    fn gradients(&self, loss: &Tensor) -> Result<GradStore> {
        self.backward(loss).map_err(|e| Error::Network(e.to_string()))
    }
}

/// The bilateral Gaussian of eq. 2 over position and intensities.
struct Bilateral {
    sigma_xy_mm: f64,
    sigma_intensity: f64,
    kernel: String,
    /// The device that kernels were last asked for, with what is compiled for it.
    #[cfg(feature = "cuda")]
    cuda: std::sync::Mutex<Option<(candle_core::cuda_backend::DeviceId, Arc<scribseg_crf_kernels::Cuda>)>>,
}

fn fault(error: scribseg_crf_kernels::Error) -> Error {
    Error::Network(format!("dense CRF: {error}"))
}

impl Bilateral {
    fn features(
        &self,
        features: &[f32],
        height: usize,
        width: usize,
        pixel_mm: [f64; 2],
    ) -> Result<Features> {
        Features::bilateral(features, height, width, pixel_mm, self.sigma_xy_mm, self.sigma_intensity)
            .map_err(fault)
    }

    /// The lattice that `kernel` asks for, if it is one.
    fn lattice(&self, features: &Features) -> Result<Option<Lattice>> {
        let quality = match self.kernel.as_str() {
            "exact" => return Ok(None),
            "lattice-hq" => Quality::High,
            _ => Quality::Standard,
        };
        let path = CpuPath::detect().map_err(fault)?;
        Lattice::build_with(features, quality, path).map(Some).map_err(fault)
    }

    /// The kernels' own view of candle's device.
    #[cfg(feature = "cuda")]
    fn cuda(&self, device: &candle_core::CudaDevice) -> Result<Arc<scribseg_crf_kernels::Cuda>> {
        let mut kept = self.cuda.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*kept {
            Some((id, cuda)) if *id == device.id() => Ok(cuda.clone()),
            _ => {
                let cuda = scribseg_crf_kernels::Cuda::on_stream(device.cuda_stream()).map_err(fault)?;
                *kept = Some((device.id(), cuda.clone()));
                Ok(cuda)
            }
        }
    }
}

impl PairwiseLoss for Bilateral {
    fn kernel(
        &self,
        features: &[f32],
        height: usize,
        width: usize,
        pixel_mm: [f64; 2],
    ) -> Result<Arc<dyn PairwiseKernel>> {
        let features = self.features(features, height, width, pixel_mm)?;
        Ok(match self.lattice(&features)? {
            Some(lattice) => Arc::new(lattice),
            None => Arc::new(Exact::build(features).map_err(fault)?),
        })
    }

    #[cfg(feature = "cuda")]
    fn kernel_on(
        &self,
        device: &Device,
        features: &[f32],
        height: usize,
        width: usize,
        pixel_mm: [f64; 2],
    ) -> Result<Arc<dyn PairwiseKernel>> {
        use scribseg_crf_kernels::Resident;
        let Device::Cuda(device) = device else { return self.kernel(features, height, width, pixel_mm) };
        let (cuda, features) = (self.cuda(device)?, self.features(features, height, width, pixel_mm)?);
        let resident = match self.lattice(&features)? {
            Some(lattice) => Resident::lattice(&cuda, &lattice),
            None => Resident::exact(&cuda, &features),
        };
        Ok(Arc::new(resident.map_err(fault)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_multiplies_in_the_precision_of_the_configuration() {
        let mut config = Config::default();
        config.set_all(&["network.width=4", "network.depth=1"]).unwrap();
        let images = Tensor::rand(-1f32, 1.0, (1, 4, 16, 16), &Device::Cpu).unwrap();
        let weights = Methods::paper(&config).network.init(2, 1, &Device::Cpu).unwrap();
        let [full, rounded] = ["f32", "bf16"].map(|precision| {
            config.set(&format!("network.precision={precision}")).unwrap();
            let network = Methods::paper(&config).network.load(2, &weights, &Device::Cpu).unwrap();
            network.logits(&images, false).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        });
        let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |most, v| most.max(v.abs()));
        let difference = most(&mut full.iter().zip(&rounded).map(|(a, b)| a - b));
        let scale = most(&mut full.iter().copied());
        assert!(difference > 1e-5 * scale && difference < 0.05 * scale, "{difference} of {scale}");
    }
}
