//! `cargo xtask bench --record`: measured cases in BENCHMARKS.md, under the machine that measured them.

use std::collections::BTreeMap;

use crate::bench::Case;

/// The file, at the workspace's root.
pub(crate) const FILE: &str = "BENCHMARKS.md";

const PREAMBLE: &str = "\
# Benchmarks

Medians of interleaved runs in ms; ratio = the peer's time through ours, above 1 we are faster. `cargo xtask bench --peers --record` measures
again and replaces what it measured; a row stays until then, so rows may come from different versions. Peers are pinned in
`xtask/src/peers.rs` and `Cargo.lock`; of PyTorch's settings the fastest is named. In rows that end in `-bf16` the peer is the fastest in bf16; ours is f32 where the processor has no AMX.
";

const COLUMNS: &str = "\
| bench | device | threads | ours ms | peer ms | ratio | peer |
|---|---|--:|--:|--:|--:|---|
";

/// Rows by bench, device, threads and the peer's name.
type Rows = BTreeMap<[String; 4], String>;

/// The file's text with `cases` in the section of `machine`.
pub(crate) fn record(text: &str, machine: &str, cases: &[Case]) -> String {
    let mut sections: BTreeMap<String, Rows> = BTreeMap::new();
    let mut heading = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = Some(title.to_owned());
        } else if let (Some(heading), Some((key, row))) = (&heading, parse(line)) {
            sections.entry(heading.clone()).or_default().insert(key, row);
        }
    }
    let rows = sections.entry(machine.to_owned()).or_default();
    rows.extend(cases.iter().filter_map(|case| parse(&row(case))));
    let mut out = PREAMBLE.to_owned();
    for (heading, rows) in sections {
        out += &format!("\n## {heading}\n\n{COLUMNS}");
        rows.values().for_each(|row| out += &format!("{row}\n"));
    }
    out
}

fn row(case: &Case) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
    format!(
        "| {} | {} | {} | {:.2} | {} | {} | {} |",
        case.bench,
        case.device,
        case.threads,
        case.ours_ms,
        number(case.peer_ms),
        number(case.ratio),
        case.peer.as_deref().unwrap_or("-")
    )
}

/// What a row of a table is known by, and the row; `None` for any other line. A peer is known by its first word, without version and setting.
fn parse(line: &str) -> Option<([String; 4], String)> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [bench, device, threads, _, _, _, peer] = cells[..] else { return None };
    let _: usize = threads.parse().ok()?;
    let peer = peer.split([' ', ',']).next().unwrap_or_default();
    Some(([bench, device, threads, peer].map(str::to_owned), line.to_owned()))
}

/// This machine, in words: processor, instructions that the kernels use, threads, memory, system.
pub(crate) fn machine() -> String {
    let field = |file: &str, name: &str| -> Option<String> {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unnamed processor".into());
    let detail = |name| field("/proc/cpuinfo", name).map(|value| format!("{name} {value}"));
    let family: Vec<String> = ["cpu family", "model"].into_iter().filter_map(detail).collect();
    let gib = field("/proc/meminfo", "MemTotal")
        .and_then(|total| total.split(' ').next()?.parse::<f64>().ok())
        .map_or_else(String::new, |kib| format!(", {:.0} GiB", kib / 1048576.0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    format!(
        "{processor} ({}), {}, {threads} threads{gib}, {system} {architecture}",
        family.join(", "),
        instructions()
    )
}

/// This machine by its CUDA device: name and driver, then as [`machine`].
pub(crate) fn gpu_machine() -> String {
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    let output = std::process::Command::new("nvidia-smi").args(query).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let device = text.lines().next().and_then(|line| line.split_once(", "));
    let device =
        device.map_or("unnamed device".to_owned(), |(name, driver)| format!("{name}, driver {driver}"));
    format!("{device}; {}", machine())
}

fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "neither AVX2 nor AVX-512"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(bench: &str, ours_ms: f64, peer: Option<&str>) -> Case {
        let peer_ms = peer.map(|_| 10.0);
        Case {
            bench: bench.into(),
            device: "cpu".into(),
            threads: 2,
            ours_ms,
            peer: peer.map(str::to_owned),
            peer_ms,
            ratio: peer_ms.map(|ms| ms / ours_ms),
        }
    }

    #[test]
    fn a_row_is_replaced_by_its_own_kind_alone() {
        let first = [
            case("a", 4.0, Some("PyTorch 2.12 f32")),
            case("a", 4.0, Some("candle 0.11")),
            case("b", 1.0, None),
        ];
        let text = record("", "machine one", &first);
        let text = record(&text, "machine two", &[case("a", 8.0, Some("PyTorch 2.12 f32"))]);
        let text = record(&text, "machine one", &[case("a", 5.0, Some("PyTorch 2.13 f32-last"))]);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("| cpu |")).collect();
        assert_eq!(
            rows,
            [
                "| a | cpu | 2 | 5.00 | 10.00 | 2.00 | PyTorch 2.13 f32-last |",
                "| a | cpu | 2 | 4.00 | 10.00 | 2.50 | candle 0.11 |",
                "| b | cpu | 2 | 1.00 | - | - | - |",
                "| a | cpu | 2 | 8.00 | 10.00 | 1.25 | PyTorch 2.12 f32 |",
            ]
        );
        assert!(
            text.starts_with(PREAMBLE)
                && text.contains("\n## machine one\n")
                && text.contains("\n## machine two\n")
        );
        assert_eq!(record(&text, "machine two", &[]), text);
    }
}
