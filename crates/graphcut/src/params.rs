use crate::{Error, SlicParams};

/// Parameters of [`crate::propagate()`]; lengths are in mm, so that they hold at any voxel size.
///
/// The defaults put the most telling channels last, as in T1, T1ce, T2, FLAIR; for other orders start from
/// [`Params::for_channels`].
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Supervoxels; the compactness is in robust standard deviations of the brain's intensities.
    pub slic: SlicParams,
    /// Channels that the supervoxels and the contrast between neighbours look at; `None` is the image's last (FLAIR).
    pub slic_channels: Option<Vec<usize>>,
    /// Channels of the joint intensity histograms, one to three; `None` is the image's last two (T2 and FLAIR), or its only
    /// one.
    pub model_channels: Option<Vec<usize>>,
    /// Cells of a histogram along each channel: 2 to 256, at most 65,536 in all.
    pub bins: usize,
    /// Standard deviation, in cells, of the Gaussian that smooths the histograms: at least 0.
    pub smoothing: f64,
    /// Volume in mm³ of the equal pseudo-counts in each histogram: above 0.
    pub pseudo_mm3: f64,
    /// Weight of the boundary between the classes, in mm: how many mm³ of one unit of log-likelihood a mm² of
    /// boundary between equal supervoxels costs. At least 0.
    pub smoothness_mm: f64,
    /// What nearness to the scribbles says at most for either class, in units of log-likelihood for each voxel: a
    /// supervoxel `d_t` away from the tumour scribbles and `d_h` from the healthy ones, along paths over the image, gets
    /// `position · (d_h − d_t) / (d_h + d_t)` in favour of tumour. At least 0; 0 leaves it out.
    pub position: f64,
    /// Weight of the classes' shares of the brain, `−log` of the part of the voxels a class has, in the cost of each voxel:
    /// 1 is the maximum-likelihood mixture, 0 leaves the rarer class as likely as the other. At least 0.
    pub share: f64,
    /// How much longer a path gets where intensity changes by one robust standard deviation: at least 0.
    pub path_contrast: f64,
    /// Most rounds of cutting and fitting: at least 1.
    pub rounds: usize,
    /// Stop when a round lowers the energy by less than this part of it: at least 0.
    pub tolerance: f64,
    /// Depth in mm of the unknown rim that erosion leaves on both masks: at least 0; along each axis it is rounded to
    /// whole voxels. 1 mm is a 3 × 3 × 3 box at 1 mm.
    pub rim_mm: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            slic: SlicParams::default(),
            slic_channels: None,
            model_channels: None,
            bins: 32,
            smoothing: 1.0,
            pseudo_mm3: 100.0,
            smoothness_mm: 5.0,
            position: 1.0,
            share: 0.3,
            path_contrast: 10.0,
            rounds: 10,
            tolerance: 1e-4,
            rim_mm: 1.0,
        }
    }
}

impl Params {
    /// The defaults on other channels: `slic` for the supervoxels, `model` for the intensity models.
    pub fn for_channels(slic: &[usize], model: &[usize]) -> Self {
        Self { slic_channels: Some(slic.to_vec()), model_channels: Some(model.to_vec()), ..Self::default() }
    }

    /// The channels in force for an image of `channels` channels: those of the supervoxels and those of the models.
    pub fn channels(&self, channels: usize) -> [Vec<usize>; 2] {
        let last = |n: usize| (channels.saturating_sub(n)..channels).collect();
        [
            self.slic_channels.clone().unwrap_or_else(|| last(1)),
            self.model_channels.clone().unwrap_or_else(|| last(2)),
        ]
    }

    /// Checks every range, for an image of `channels` channels.
    ///
    /// # Errors
    /// Names the first parameter that is out of its range.
    pub fn validate(&self, channels: usize) -> Result<(), Error> {
        self.slic.validate()?;
        let [slic, model] = self.channels(channels);
        for (what, list) in [("slic_channels", &slic), ("model_channels", &model)] {
            if list.is_empty() {
                return Err(parameter(what, "at least one channel", "none"));
            }
            if let Some(&channel) = list.iter().find(|&&c| c >= channels) {
                return Err(Error::Channel { what, channel, channels });
            }
        }
        if model.len() > 3 {
            return Err(parameter("model_channels", "one to three channels", model.len()));
        }
        let cells = self.bins.checked_pow(model.len() as u32);
        if !(2..=256).contains(&self.bins) || cells.is_none_or(|n| n > 65_536) {
            return Err(parameter("bins", "2 to 256, and at most 65,536 cells in all", self.bins));
        }
        if self.rounds == 0 {
            return Err(parameter("rounds", "at least 1", 0));
        }
        if !(self.pseudo_mm3.is_finite() && self.pseudo_mm3 > 0.0) {
            return Err(parameter("pseudo_mm3", "a volume above 0 mm³", self.pseudo_mm3));
        }
        for (name, value) in [
            ("smoothing", self.smoothing),
            ("smoothness_mm", self.smoothness_mm),
            ("position", self.position),
            ("share", self.share),
            ("path_contrast", self.path_contrast),
            ("tolerance", self.tolerance),
            ("rim_mm", self.rim_mm),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(parameter(name, "a finite number of at least 0", value));
            }
        }
        Ok(())
    }
}

fn parameter(name: &'static str, expected: &'static str, found: impl ToString) -> Error {
    Error::Parameter { name, expected, found: found.to_string() }
}
