//! What a mixed fit's stages are told: S and G of eq. 1 from what there is of each scan.

use candle_nn::VarMap;
use ndarray::{Array3, Zip};
use rayon::prelude::*;

use crate::batches::{Kind, Supervision, UNLABELLED};
use crate::error::Result;
use crate::evidence::Evidence;
use crate::segment;
use crate::study::Study;
use crate::supervision as labels;

/// The probability from which on a prediction becomes a label.
pub(crate) const SURE: f32 = 0.9;

impl Study<'_> {
    /// Phase 1's S and G: of a mixed fit, those of a scan with a mask are scribbles drawn from it and the mask itself, and one with neither mask
    /// nor scribbles has none.
    pub(crate) fn tumours_supervised(&self, scribbles: &[Array3<u8>], weak: &[Array3<u8>]) -> Supervision {
        let mut out = Self::tumour_supervision(scribbles, Some(weak));
        if let Some(evidence) = self.evidence() {
            out.kinds = evidence.iter().map(Evidence::tumour_kind).collect();
        }
        out
    }

    /// Gives scans of which presence alone is known what Unet-WT is sure of after the first part, as G; where it is sure of no tumour, nothing.
    pub(crate) fn add_predictions(&self, supervision: &mut Supervision, weights: &VarMap) -> Result<()> {
        let Some(evidence) = self.evidence() else { return Ok(()) };
        let predicts = |e: &Evidence| e.tumour_kind() == Kind::Prediction && e.tells_presence();
        (supervision.weak.par_iter_mut().zip(evidence).zip(&self.train))
            .filter(|((_, e), _)| predicts(e))
            .try_for_each(|((weak, _), scan)| {
                let network = self.methods.network.load(2, weights, self.device)?;
                let found = segment::sure_classes(&*network, scan, self.device, SURE)?;
                if found.iter().any(|&v| v != 0 && v != UNLABELLED) {
                    *weak = labels::inside_brain(&found, &scan.brain);
                } else {
                    self.progress
                        .log(&format!("{}: the network is sure of no tumour to go on with", scan.id));
                }
                Ok(())
            })
    }

    /// Phase 2's S' and G'.
    pub(crate) fn substructures_supervised(
        &self,
        tumours: &[Array3<u8>],
        masks: &[Array3<u8>],
        scribbles: &[Array3<u8>],
        weak: &[Array3<u8>],
    ) -> Result<Supervision> {
        let Some(evidence) = self.evidence() else {
            return self.substructure_supervision(masks, scribbles, weak);
        };
        // Where nobody told the background, it is what Unet-WT is sure of.
        let predicted = |i: usize| {
            let healthy = |&t: &u8, &inside: &bool| if inside && t == 0 { 2 } else { 0 };
            let found = tumours[i].iter().any(|&t| t == 1) && evidence[i].tells_presence();
            if found {
                Zip::from(&tumours[i]).and(&self.train[i].brain).map_collect(healthy)
            } else {
                weak[i].clone()
            }
        };
        let weak: Vec<Array3<u8>> = (evidence.iter().enumerate())
            .map(|(i, e)| if e.tumour_kind() == Kind::Prediction { predicted(i) } else { weak[i].clone() })
            .collect();
        let mut out = self.substructure_supervision(masks, scribbles, &weak)?;
        for (i, e) in evidence.iter().enumerate() {
            if e.tumour_kind() == Kind::Prediction {
                // A skeleton of what was predicted is no surer than the rest of it.
                Zip::from(&mut out.weak[i]).and(&out.strong[i]).for_each(|g, &s| {
                    if s != UNLABELLED {
                        *g = s;
                    }
                });
                out.strong[i] = labels::nothing(&weak[i]);
            }
        }
        out.kinds = evidence.iter().map(Evidence::substructure_kind).collect();
        Ok(out)
    }
}
