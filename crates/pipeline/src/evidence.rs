//! Mixed supervision: what each scan brings for the two levels, and what of it trains.
//!
//! For the *whole tumour* a scan may bring a mask, scribbles, presence labels alone, or nothing; for the *sub-structures* a mask that tells
//! them, presence labels, or nothing. Each level has its own unknown: a mask's voxels may be unknown, or tumour of an untold kind.
//!
//! | whole tumour | trains on |
//! |---|---|
//! | mask | scribbles drawn from it as S; its known voxels in the brain as G |
//! | scribbles | the paper's path: S, and G by graph cut |
//! | presence alone | nothing in the first part; in the second, as G what Unet-WT is at least 0.9 sure of after the first |
//! | nothing | not at all |
//!
//! | sub-structures | trains on |
//! |---|---|
//! | mask | skeletons of its sub-structures as S', its known voxels in the brain as G' |
//! | presence | the paper's path: k-means inside the mask's, or else Unet-WT's, tumour |
//! | nothing | the background that is known |

use std::path::{Path, PathBuf};

use ndarray::{Array3, Zip};
use rayon::prelude::*;
use scribseg_io::{
    Case, Cohort, LabelScheme, NOT_LABELLED, Presence, PresenceTable, ScribbleMapping, TUMOUR_OF_ANY_KIND,
    companion,
};
use serde::Serialize;

use crate::batches::Kind;
use crate::config::{Config, MaskValues};
use crate::error::{Error, Result};
use crate::presence::{contradictions, table_of};
use crate::scan::Scan;
use crate::scribbles::scribble_of;

/// The part of a scribble's voxels that a mask may call otherwise, where drawings cross the tumour's edge.
const CROSSING: f64 = 0.05;

/// Where masks to train on are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masks {
    /// `<case>_seg.nii.gz` in a folder, of some cases.
    Folder(PathBuf),
    /// The cohort's own references.
    Reference,
}

/// Where labels to train on come from.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// Folder of `<case>_scribble.nii.gz`; without it scribbles are simulated from the references, in a mixed fit there are none.
    pub scribbles: Option<PathBuf>,
    /// Masks, for a mixed fit.
    pub masks: Option<Masks>,
    /// `participants.tsv`; without it the cohort's own, else derived from references, in a mixed fit from masks.
    pub presence: Option<PathBuf>,
}

/// Where a mixed fit looks for what there is of a scan.
pub struct Sources {
    scribbles: Option<PathBuf>,
    masks: Option<Masks>,
    table: Option<PresenceTable>,
    scheme: LabelScheme,
    scribble_values: ScribbleMapping,
    mask_values: MaskValues,
    lambda: [f64; 2],
}

/// What trains of one level of a scan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Level {
    /// What there is.
    pub found: Vec<&'static str>,
    /// What trains: one of them, `prediction`, `background` or `nothing`.
    pub used: &'static str,
    /// Weight of its S in eq. 1; 0 where it has none.
    pub strong: f64,
    /// Weight of its G in eq. 1; 0 where it has none.
    pub weak: f64,
}

/// What trains of a scan; its slices' share of a batch weighs beside it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Used {
    /// The scan.
    pub id: String,
    /// The first level.
    pub whole_tumour: Level,
    /// The second level.
    pub substructures: Level,
}

impl Used {
    /// `whole tumour from scribbles (S 1, G 0.8), sub-structures from presence (S 1, G 0.2)`.
    pub fn in_words(&self) -> String {
        let words = |level: &Level| match level.used {
            "nothing" => "nothing".to_owned(),
            used => format!("{used} (S {}, G {})", level.strong, level.weak),
        };
        format!(
            "whole tumour from {}, sub-structures from {}",
            words(&self.whole_tumour),
            words(&self.substructures)
        )
    }
}

/// What there is of one scan, on its crop.
#[derive(Clone)]
pub(crate) struct Evidence {
    /// 0 background, 1 to 3 sub-structures, 4 tumour, 255 unknown.
    pub(crate) mask: Option<Array3<u8>>,
    pub(crate) scribble: Option<Array3<u8>>,
    /// What is known of it; without any, nothing.
    pub(crate) presence: Presence,
}

impl Sources {
    /// Of `labels` for `cohort`.
    ///
    /// # Errors
    /// A table that cannot be read, a folder that is none.
    pub fn open(cohort: &Cohort, labels: &Labels, config: &Config) -> Result<Self> {
        let table = table_of(cohort, labels.presence.as_deref());
        let folders = [
            labels.scribbles.as_ref(),
            match &labels.masks {
                Some(Masks::Folder(folder)) => Some(folder),
                _ => None,
            },
        ];
        if let Some(folder) = folders.into_iter().flatten().find(|folder| !folder.is_dir()) {
            return Err(Error::Cohort {
                path: folder.clone(),
                problem: "expected a folder of masks or scribbles, found none; mend the path".into(),
            });
        }
        Ok(Self {
            scribbles: labels.scribbles.clone(),
            masks: labels.masks.clone(),
            table: table.map(PresenceTable::read).transpose()?,
            scheme: cohort.scheme,
            scribble_values: config.input.scribble_values.mapping()?,
            mask_values: config.input.mask_values.clone(),
            lambda: [config.wt.lambda, config.sub.lambda],
        })
    }

    /// The mask's file, where there is one.
    pub(crate) fn mask_of(&self, case: &Case) -> Result<Option<PathBuf>> {
        match &self.masks {
            None => Ok(None),
            Some(Masks::Reference) => Ok(case.reference.clone()),
            Some(Masks::Folder(folder)) => {
                scribseg_io::one_companion(folder, &case.id, "seg")?;
                Ok(Some(companion(folder, &case.id, "seg")).filter(|path| path.is_file()))
            }
        }
    }

    /// The scribble's file, where there is one.
    pub(crate) fn scribble_file(&self, id: &str) -> Option<PathBuf> {
        self.scribbles.as_ref().map(|folder| companion(folder, id, "scribble")).filter(|path| path.exists())
    }

    /// The case's line in the presence table, where there is one.
    pub(crate) fn row(&self, id: &str) -> Option<Presence> {
        self.table.as_ref().and_then(|table| table.rows.get(id)).copied()
    }

    /// What there is of a scan.
    ///
    /// # Errors
    /// Files that cannot be read, and those that contradict each other.
    pub(crate) fn evidence(&self, case: &Case, scan: &Scan) -> Result<Evidence> {
        let scribble = match &self.scribbles {
            Some(folder) if self.scribble_file(&scan.id).is_some() => {
                Some(scribble_of(folder, scan, &self.scribble_values)?)
            }
            _ => None,
        };
        let told = self.row(&scan.id);
        let mut found = Evidence { mask: None, scribble, presence: told.unwrap_or_default() };
        let Some(path) = self.mask_of(case)? else { return Ok(found) };
        let MaskValues { unknown, tumour } = &self.mask_values;
        let scheme = if self.masks == Some(Masks::Reference) { case.scheme } else { self.scheme };
        let whole = scribseg_io::read_mask(&path, &scan.geometry, scheme, unknown, tumour)?;
        let mask = scan.crop(whole.view(), 0);
        let refuse = |problem: String| Error::Cohort { path: path.clone(), problem };
        if let Some(scribble) = &found.scribble {
            let (mut drawn, mut other) = (0u64, 0u64);
            Zip::from(scribble).and(&mask).for_each(|&s, &m| {
                let knows = s != 0 && m != NOT_LABELLED;
                drawn += u64::from(knows);
                other += u64::from(knows && (s == 1) != (m != 0));
            });
            if other as f64 > CROSSING * drawn as f64 {
                return Err(refuse(format!(
                    "expected a mask that agrees with the scribble of case {}, found the contrary in {other} of {drawn} scribbled voxels; leave out the one that is wrong",
                    scan.id
                )));
            }
        }
        // Voxels that are not told could be of any kind: then only what the mask shows speaks against the table.
        let is_complete = !whole.iter().any(|&v| v > 3);
        for what in contradictions(Some(&whole), found.presence) {
            if is_complete || what.contains("has no") {
                return Err(refuse(format!(
                    "expected a mask that agrees with the presence labels, found that {} {}; mend the one that is wrong",
                    scan.id,
                    what.replace("reference", "mask")
                )));
            }
        }
        if is_complete && told.is_none() {
            found.presence = Presence::from_labels(whole.view());
        }
        // A mask of which nothing is known leaves the scan to its scribbles.
        let is_known = |&m: &u8, &inside: &bool| inside && m != NOT_LABELLED;
        if Zip::from(&mask).and(&scan.brain).any(is_known) {
            found.mask = Some(mask);
        }
        Ok(found)
    }

    /// What would train of a scan that is prepared with `config`.
    ///
    /// # Errors
    /// Files that cannot be read, and those that contradict each other.
    pub fn used(&self, case: &Case, scan: &Scan) -> Result<Used> {
        Ok(self.evidence(case, scan)?.used(&scan.id, self.lambda))
    }

    /// What there is of all training scans, and what trains.
    ///
    /// # Errors
    /// As [`evidence`](Self::evidence), and a level for which no scan has anything.
    pub(crate) fn gather(&self, cohort: &Cohort, scans: &[&Scan]) -> Result<(Vec<Evidence>, Vec<Used>)> {
        let found: Vec<(Evidence, Used)> = scans
            .par_iter()
            .copied()
            .filter_map(|scan| cohort.cases.iter().find(|case| case.id == scan.id).map(|case| (case, scan)))
            .map(|(case, scan)| {
                let evidence = self.evidence(case, scan)?;
                let used = evidence.used(&scan.id, self.lambda);
                Ok((evidence, used))
            })
            .collect::<Result<_>>()?;
        let (evidence, used): (Vec<Evidence>, Vec<Used>) = found.into_iter().unzip();
        enough(cohort, &used)?;
        let healthy = |(e, scan): (&Evidence, &Scan)| {
            let masked = e.tumour_of_mask(&scan.brain).is_some_and(|mask| mask.iter().any(|&m| m == 2));
            e.tumour_kind() == Kind::Scribbles || masked
        };
        if !evidence.iter().zip(scans.iter().copied()).any(healthy) {
            return Err(lacks(cohort, "healthy tissue in a mask or scribbles", "scribbles of both kinds"));
        }
        Ok((evidence, used))
    }

    /// Image files in the folders of labels, and rows of the table, that are no case's, in words.
    pub fn strays(&self, cohort: &Cohort) -> Vec<String> {
        let mut strays = Vec::new();
        let masks = match &self.masks {
            Some(Masks::Folder(folder)) => Some(folder),
            _ => None,
        };
        for (folder, kind) in [(masks, "seg"), (self.scribbles.as_ref(), "scribble")] {
            let Some(folder) = folder else { continue };
            let mut names: Vec<String> = std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| {
                    [".nii", ".nii.gz", ".hdr", ".img", ".nrrd"].iter().any(|end| name.ends_with(end))
                })
                .filter(|name| {
                    let of = |case: &Case| name.starts_with(&format!("{}_{kind}.", case.id));
                    let segments = kind == "seg" && name.ends_with(".nrrd");
                    segments || !cohort.cases.iter().any(of)
                })
                .collect();
            names.sort();
            strays.extend(names.iter().map(|name| {
                format!(
                    "{}: no case's (expected <case>_{kind}.nii.gz); it is left out",
                    folder.join(name).display()
                )
            }));
        }
        if let Some(table) = &self.table {
            let unknown = table.rows.keys().filter(|id| !cohort.cases.iter().any(|case| &case.id == *id));
            strays.extend(
                unknown.map(|id| {
                    format!("presence table: row {id} is of no case of the cohort; it is left out")
                }),
            );
        }
        strays
    }
}

pub(crate) fn lacks(cohort: &Cohort, what: &str, give: &str) -> Error {
    Error::Cohort {
        path: cohort.root.clone(),
        problem: format!(
            "expected {what} of at least one training scan, found none; give {give}, or name other cases in `input.held_out` if those that have it are held out"
        ),
    }
}

/// An error unless some training scan has a tumour drawn, and some its sub-structures told.
///
/// # Errors
/// What is missing, and what to give.
pub fn enough(cohort: &Cohort, used: &[Used]) -> Result<()> {
    if !used.iter().any(|used| used.whole_tumour.strong > 0.0) {
        return Err(lacks(cohort, "a mask or scribbles", "`--masks` or `--scribbles`"));
    }
    if !used.iter().any(|used| ["mask", "presence"].contains(&used.substructures.used)) {
        return Err(lacks(
            cohort,
            "a mask of sub-structures or presence labels",
            "`--masks` or `--presence`",
        ));
    }
    Ok(())
}

impl Evidence {
    /// Whether presence labels say anything.
    pub(crate) fn tells_presence(&self) -> bool {
        let Presence { ncr, ed, et } = self.presence;
        ncr.is_some() || ed.is_some() || et.is_some()
    }

    /// The mask, if it tells the sub-structures of its tumour, or of some of it.
    pub(crate) fn substructure_mask(&self) -> Option<&Array3<u8>> {
        self.mask.as_ref().filter(|m| m.iter().any(|v| (1..=3).contains(v)))
    }

    /// Where the labels of the whole tumour come from.
    pub(crate) fn tumour_kind(&self) -> Kind {
        match (&self.mask, &self.scribble) {
            (Some(_), _) => Kind::Mask,
            (None, Some(_)) => Kind::Scribbles,
            (None, None) => Kind::Prediction,
        }
    }

    /// Where those of the sub-structures come from.
    pub(crate) fn substructure_kind(&self) -> Kind {
        match self.substructure_mask() {
            Some(_) => Kind::Mask,
            None if self.tumour_kind() == Kind::Prediction => Kind::Prediction,
            None => Kind::Scribbles,
        }
    }

    /// The mask as 0 unknown, 1 tumour, 2 healthy, in the brain.
    pub(crate) fn tumour_of_mask(&self, brain: &Array3<bool>) -> Option<Array3<u8>> {
        let mask = self.mask.as_ref()?;
        Some(Zip::from(mask).and(brain).map_collect(|&m, &inside| match m {
            0 => 2 * u8::from(inside),
            1..=TUMOUR_OF_ANY_KIND => 1,
            _ => 0,
        }))
    }

    fn used(&self, id: &str, lambda: [f64; 2]) -> Used {
        let (mask, scribble, presence) =
            (self.mask.is_some(), self.scribble.is_some(), self.tells_presence());
        let substructures = self.substructure_mask().is_some();
        let found =
            |all: &[(&'static str, bool)]| all.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let [wt, sub] = lambda;
        let (used, strong, weak) = match (mask, scribble, presence) {
            (true, ..) => ("mask", 1.0, wt),
            (_, true, _) => ("scribbles", 1.0, wt),
            (.., true) => ("prediction", 0.0, wt),
            _ => ("nothing", 0.0, 0.0),
        };
        let all = [("mask", mask), ("scribbles", scribble), ("presence", presence)];
        let whole_tumour = Level { found: found(&all), used, strong, weak };
        let (used, strong, weak) = match (substructures, presence) {
            (true, _) => ("mask", 1.0, sub),
            (_, true) => ("presence", f64::from(u8::from(mask || scribble)), sub),
            // Where the tumour is told, what lies around it is.
            _ if mask || scribble => ("background", 1.0, sub),
            _ => ("nothing", 0.0, 0.0),
        };
        let all = [("mask", substructures), ("presence", presence)];
        Used {
            id: id.to_owned(),
            whole_tumour,
            substructures: Level { found: found(&all), used, strong, weak },
        }
    }
}

/// `masks` of `fit` as given on the command line.
impl From<&Path> for Masks {
    fn from(path: &Path) -> Self {
        if path.as_os_str() == "reference" { Self::Reference } else { Self::Folder(path.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(mask: Option<[u8; 4]>, scribble: bool, et: Option<bool>) -> Evidence {
        let row = |values: [u8; 4]| Array3::from_shape_vec((1, 1, 4), values.to_vec()).unwrap();
        Evidence {
            mask: mask.map(row),
            scribble: scribble.then(|| row([1, 2, 0, 0])),
            presence: Presence { et, ..Presence::default() },
        }
    }

    #[test]
    fn each_level_takes_the_surest_that_there_is() {
        let used = |e: Evidence| {
            let used = e.used("a", [0.8, 0.2]);
            [used.whole_tumour, used.substructures].map(|l| (l.used, l.strong, l.weak))
        };
        let (mask, tumour) = (Some([0, 1, 3, 255]), Some([0, 4, 4, 255]));
        assert_eq!(used(evidence(mask, true, None)), [("mask", 1.0, 0.8), ("mask", 1.0, 0.2)]);
        let of_tumour = [("mask", 1.0, 0.8), ("presence", 1.0, 0.2)];
        assert_eq!(used(evidence(tumour, true, Some(true))), of_tumour);
        let drawn = [("scribbles", 1.0, 0.8), ("background", 1.0, 0.2)];
        assert_eq!(used(evidence(None, true, None)), drawn);
        let presence = [("prediction", 0.0, 0.8), ("presence", 0.0, 0.2)];
        assert_eq!(used(evidence(None, false, Some(false))), presence);
        assert_eq!(used(evidence(None, false, None)), [("nothing", 0.0, 0.0); 2]);
    }

    #[test]
    fn each_level_has_its_own_unknown() {
        let brain = Array3::from_shape_vec((1, 1, 4), vec![true, true, true, false]).unwrap();
        let both = evidence(Some([0, 4, 3, 0]), false, None);
        let values = |found: Option<Array3<u8>>| found.unwrap().into_raw_vec_and_offset().0;
        assert_eq!(values(both.tumour_of_mask(&brain)), [2, 1, 1, 0]);
        assert!(both.substructure_mask().is_some());
        let part = evidence(Some([255, 4, 0, 0]), false, None);
        assert_eq!(values(part.tumour_of_mask(&brain)), [0, 1, 2, 0]);
        assert!(part.substructure_mask().is_none());
    }
}
