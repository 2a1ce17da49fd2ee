//! Prints a cohort's figures: `cargo run --release -p scribseg-phantom --example figures -- [cases] [seed]`.

#[path = "../tests/measure/mod.rs"]
mod measure;

use scribseg_phantom::{Size, generate_case};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let cases = arguments.next().and_then(Result::ok).unwrap_or(6).max(1) as usize;
    let seed = arguments.next().and_then(Result::ok).unwrap_or(1);
    println!("case          brain  NCR/NET      ED      ET   tall  FLAIR threshold");
    println!("                 ml       ml      ml      ml     mm     best WT Dice");
    let cohort: Vec<_> = (0..cases)
        .map(|i| {
            let case = generate_case(i, seed, Size::Half);
            let f = measure::measure(&case);
            let best = f.threshold.iter().copied().fold(0.0, f64::max);
            let [brain, ncr, ed, et] = f.ml;
            let tall = f.height;
            println!("{}  {brain:6.0}  {ncr:7.1} {ed:7.1} {et:7.1} {tall:6.0} {best:16.2}", case.id);
            f
        })
        .collect();
    println!("\nmean of case means / deviation across cases / within a case, z-scored over the brain");
    println!("              T1                 T1ce                T2                 FLAIR");
    for (label, name) in ["healthy", "NCR/NET", "ED", "ET"].iter().enumerate() {
        print!("{name:8}");
        for modality in 0..4 {
            let (mean, sd, within) = measure::across(&cohort, label, modality);
            print!("  {mean:5.2} /{sd:5.2} /{within:5.2}");
        }
        println!();
    }
    let (at, dice) = measure::best_threshold(&cohort);
    println!("\nbest single FLAIR threshold {at:.1}: mean whole-tumour Dice {dice:.3}");
    let found: Vec<f64> = cohort.iter().filter_map(|f| f.enhancing).collect();
    if !found.is_empty() {
        println!("best T1ce threshold per scan: mean ET Dice {:.3}", measure::moments(&found).0);
    }
}
