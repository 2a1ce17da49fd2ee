//! The single steps: `phantom`, `scribble`, `propagate`, `cluster`.

use anyhow::Result;
use scribseg_pipeline::Progress;
use scribseg_pipeline::verbs::{self, Masks};
use serde_json::json;

use super::written;
use crate::arguments::{Cluster, Phantom, PresetName, Propagate, Scribble, Size};
use crate::outcome::{Outcome, Usage, print, print_json};
use crate::{given, tables};

pub(crate) fn phantom(arguments: &Phantom, progress: &dyn Progress) -> Result<Outcome> {
    let Phantom { out, cases, seed, size, json } = arguments;
    let (size, name) = match size {
        Size::Full => (scribseg_phantom::Size::Full, "full"),
        Size::Half => (scribseg_phantom::Size::Half, "half"),
    };
    verbs::write_phantom(out, *cases, *seed, size, progress)?;
    if *json {
        print_json(&json!({ "out": out, "cases": cases, "seed": seed, "size": name }))?;
    } else {
        print(&out.display().to_string())?;
    }
    Ok(Outcome::Done)
}

pub(crate) fn scribble(arguments: &Scribble, progress: &dyn Progress) -> Result<Outcome> {
    let config = arguments.settings.config(PresetName::Paper)?;
    written(&verbs::scribble_cohort(&arguments.cohort, &arguments.out, &config, progress)?, arguments.json)
}

pub(crate) fn propagate(arguments: &Propagate, progress: &dyn Progress) -> Result<Outcome> {
    let Propagate { cohort, scribbles, out, json, settings } = arguments;
    let config = settings.config(PresetName::Paper)?;
    given::scribbles(Some(scribbles))?;
    written(&verbs::propagate_cohort(cohort, scribbles, out, &config, progress)?, *json)
}

pub(crate) fn cluster(arguments: &Cluster, progress: &dyn Progress) -> Result<Outcome> {
    let Cluster { cohort, masks, out, presence, method, evaluate, json, settings } = arguments;
    let mut config = settings.config(PresetName::Paper)?;
    if let Some(method) = method {
        config
            .set(&format!("cluster.method={method}"))
            .map_err(|e| Usage(format!("--method {method}: {e}")))?;
    }
    let masks =
        if masks.as_os_str() == "reference" { Masks::Reference } else { Masks::Folder(masks.clone()) };
    if let Masks::Folder(folder) = &masks {
        given::folder("--masks", folder, "`<case>_wt.nii.gz` files")?;
    }
    given::presence(presence.as_deref())?;
    let done = verbs::cluster_cohort(cohort, &masks, presence.as_deref(), out, &config, progress)?;
    match (&done.metrics, evaluate) {
        (None, true) => {
            return Err(anyhow::anyhow!(
                "{}: --evaluate needs reference segmentations (`<case>_seg.nii.gz`), found none; add them, or leave --evaluate out",
                cohort.display()
            ));
        }
        (Some(metrics), true) if *json => print_json(&json!({ "files": done.files, "metrics": metrics }))?,
        (Some(metrics), true) => {
            print(&(tables::evaluation(metrics) + &tables::each_scan(metrics)))?;
        }
        (_, false) => return written(&done.files, *json),
    }
    Ok(Outcome::Done)
}
