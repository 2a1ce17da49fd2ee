//! `fit`, `predict` and `reproduce`.

use anyhow::Result;
use candle_core::Device;
use scribseg_pipeline::{Config, FitOptions, Labels, Masks, Origin, Progress, ReproduceOptions};

use super::{report, written};
use crate::arguments::{Fit, Predict, Reproduce};
use crate::outcome::{Outcome, Usage, print, print_json};
use crate::{given, page, plan, settings, tables};

pub(crate) fn fit(arguments: Fit, device: Device, progress: &dyn Progress) -> Result<Outcome> {
    let resolved = arguments.settings.resolve(arguments.preset)?;
    for (key, value, origin) in resolved.values().into_iter().filter(|(.., o)| *o != Origin::Default) {
        progress.detail(&format!("{} = {value} ({origin})", key.name));
    }
    let mut config = resolved.config;
    settings::set_precision(&mut config, arguments.precision, &device)?;
    settings::set_folds(&mut config, arguments.folds)?;
    settings::set_mixed(&mut config, &arguments.mixed)?;
    let Fit { cohort, out, scribbles, presence, mixed, json, dry_run, .. } = arguments;
    given::scribbles(scribbles.as_deref())?;
    given::presence(presence.as_deref())?;
    let masks = mixed.masks.as_deref().map(Masks::from);
    given::masks(masks.as_ref())?;
    let labels = Labels { scribbles, masks, presence };
    let options = FitOptions { cohort, out, labels, config, device };
    if dry_run {
        let plan = scribseg_pipeline::plan(&options, progress)?;
        if json {
            print_json(&plan)?
        } else {
            print(&plan::text(&plan))?
        }
        return Ok(Outcome::Done);
    }
    let summary = scribseg_pipeline::fit(&options, progress)?;
    let page = report::write(&summary.run)?;
    for number in 1..=summary.folds.len() {
        report::write(&summary.run.join(format!("fold-{number}")))?;
    }
    progress.log(&format!("models, figures and {} are there", page.display()));
    if json {
        print_json(&summary)?;
    } else {
        let mut text = format!("{}: {} scans trained", summary.run.display(), summary.train.len());
        if let Some(metrics) = &summary.metrics {
            let held_out = match summary.folds.len() {
                0 => "held out".to_owned(),
                folds => format!("each held out in one of {folds} folds"),
            };
            text += &format!(", {held_out}:\n{}", tables::evaluation(metrics));
        }
        print(&text)?;
    }
    Ok(Outcome::Done)
}

pub(crate) fn predict(arguments: &Predict, device: &Device, progress: &dyn Progress) -> Result<Outcome> {
    let Predict { model, inputs, out, crf, set, json } = arguments;
    let declared = settings::declared(set)?;
    written(&scribseg_pipeline::verbs::predict(model, inputs, out, *crf, &declared, device, progress)?, *json)
}

pub(crate) fn reproduce(arguments: Reproduce, device: Device, progress: &dyn Progress) -> Result<Outcome> {
    let Reproduce { preset, cohort, rows, jobs, out, set, precision, json } = arguments;
    let preset: scribseg_pipeline::Preset = preset.into();
    scribseg_pipeline::parse_rows(&rows).map_err(|e| Usage(e.to_string()))?;
    let mut config = Config::preset(preset)?;
    settings::set(&mut config, &set)?;
    settings::set_precision(&mut config, precision, &device)?;
    let out = out.unwrap_or_else(|| ["runs", preset.name()].iter().collect());
    let options = ReproduceOptions { preset, config, cohort, rows, jobs, out, device };
    let found = scribseg_pipeline::reproduce(&options, progress)?;
    let table = page::table1(&found.table);
    let markdown = scribseg_report::table1_markdown(&table);
    scribseg_io::write_atomic(options.out.join("table1.md"), markdown.as_bytes())?;
    for (figure, name) in
        [(page::figure2(found.figure2), "fig2.png"), (page::figure3(found.figure3), "fig3.png")]
    {
        // With --rows a phase may have been left out, and its figure with it.
        if !figure.cases.is_empty() {
            scribseg_io::write_atomic(options.out.join(name), &scribseg_report::figure(&figure)?)?;
        }
    }
    let page = report::write(&options.out)?;
    progress.log(&format!("tables, figures and {} are there", page.display()));
    if json {
        print_json(&found.table)?
    } else {
        print(&markdown)?
    }
    Ok(Outcome::Done)
}
