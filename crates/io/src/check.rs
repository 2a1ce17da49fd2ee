//! Reading everything in a cohort once and listing each fault by file.

use crate::cohort::{Case, Cohort, LoadedCase};
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::volume::{Volume, check_grid};
use rayon::prelude::*;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Something wrong with one file of a cohort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The case; empty when the fault is the cohort's.
    pub case: String,
    /// The file or folder.
    pub file: PathBuf,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What to do.
    pub hint: String,
}

/// Reads every image and segmentation of `cohort`, cases in parallel, and returns the faults in the order of cases
/// and of T1, T1ce, T2, FLAIR, reference within them. Empty means that everything can be loaded.
pub fn check(cohort: &Cohort) -> Vec<Fault> {
    check_with(cohort, |_, _| Vec::new())
}

/// [`check`], and what `also` finds at fault in cases that can be loaded.
pub fn check_with(cohort: &Cohort, also: impl Fn(&Case, LoadedCase) -> Vec<Fault> + Sync) -> Vec<Fault> {
    let mut faults: Vec<Fault> = cohort
        .cases
        .par_iter()
        .flat_map_iter(|case| match case.load() {
            Ok(loaded) => also(case, loaded),
            // Something is wrong: each file by itself, so that every fault is named and not the first alone.
            Err(_) => check_case(case),
        })
        .collect();
    faults.extend(cohort.strange.iter().map(|folder| Fault {
        case: String::new(),
        file: folder.clone(),
        expected: format!("files named {}", cohort.layout.pattern()),
        found: "images with other names, deeper than that, or a reference without its images".into(),
        hint: "rename them, or move them out of the cohort".into(),
    }));
    faults
}

fn check_case(case: &Case) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut note = |error: Error, file: &Path| {
        let file = error.file().unwrap_or(file).to_path_buf();
        let (expected, found, hint) = (error.expected(), error.found(), error.hint());
        faults.push(Fault { case: case.id.clone(), file, expected, found, hint });
    };
    // The first image that can be read sets the grid for the rest.
    let mut grid: Option<(Geometry, &Path)> = None;
    if case.stacked.is_some() {
        let path = &case.paths[0];
        let read = case.geometry().map(|geometry| grid = Some((geometry, path)));
        // Without the reference: that is looked at by itself.
        if let Err(error) = read.and_then(|()| case.load_images().map(drop)) {
            note(error, path);
        }
    } else {
        for (n, path) in case.paths.iter().enumerate() {
            let mut read = || -> Result<()> {
                case.require(n)?;
                // The grid is known from the header even if the voxels are at fault.
                let geometry = crate::volume::read_geometry(path)?;
                match &grid {
                    Some((grid, reference)) => {
                        check_grid(path, &geometry, grid, &reference.display().to_string())?;
                    }
                    None => grid = Some((geometry, path)),
                }
                Ok(())
            };
            if let Err(error) = read().and_then(|()| Volume::read_modality(path).map(drop)) {
                note(error, path);
            }
        }
    }
    if let Some(path) = &case.reference {
        let checked = case.load_reference().and_then(|loaded| match (loaded, &grid) {
            (Some((_, geometry)), Some((grid, reference))) => {
                check_grid(path, &geometry, grid, &reference.display().to_string()).map(drop)
            }
            _ => Ok(()),
        });
        if let Err(error) = checked {
            note(error, path);
        }
    }
    faults
}
