//! The guide's page of every key (`docs/src/config.md`) is made from the code. `SCRIBSEG_BLESS=1` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;

use scribseg_pipeline::{Config, Key, Preset};

const HEAD: &str = "# Every configuration key

<!-- Made from crates/pipeline/src/config.rs by a test: `SCRIBSEG_BLESS=1 cargo test -p scribseg-pipeline --test config_page` writes it anew. -->

A value comes from the first of these that names it: `--set key=value` on the command line, the TOML file after `--config`, the preset after `--preset` (`paper`
unless you say otherwise; a file lies over `paper`). `scribseg config show` prints every value in force and where it came from, as a file that `--config` takes:

```sh
scribseg config show --preset smoke --set train.batch=8 > mine.toml
scribseg config show --config mine.toml --json > values.json
```

A finished run holds all of them in its `config.toml`. The columns `smoke`, `phantom` and `paper` are the presets' values; `paper` is the default.
";

#[test]
fn the_page_of_the_guide_is_that_of_the_code() {
    let presets = Preset::ALL.map(|preset| Config::preset(preset).unwrap());
    let mut page = HEAD.to_owned();
    let mut section = "none".to_owned();
    for key in Config::keys() {
        let (path, name) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
        if path != section {
            page += &match Config::about_section(path) {
                Some(about) => format!("\n## `{path}`\n\n{about}\n"),
                None => "\n## Of the whole run\n".to_owned(),
            };
            page += "\n| key | takes | smoke | phantom | paper | what it is |\n|---|---|---|---|---|---|\n";
            section = path.to_owned();
        }
        let [smoke, phantom, paper] = presets.each_ref().map(|config| value(&key, config));
        let Key { expected, about, .. } = &key;
        page += &format!("| `{name}` | {expected} | {smoke} | {phantom} | {paper} | {about} |\n");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/config.md");
    if std::env::var_os("SCRIBSEG_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    assert!(there == page, "{} is stale; SCRIBSEG_BLESS=1 writes it anew", path.display());
}

/// Small numbers by their power of ten, as the paper has them.
fn value(key: &Key, config: &Config) -> String {
    let value = key.value(config).unwrap();
    match value.as_float() {
        Some(v) if v != 0.0 && v.abs() < 1e-3 => format!("`{v:e}`"),
        _ => format!("`{value}`"),
    }
}
