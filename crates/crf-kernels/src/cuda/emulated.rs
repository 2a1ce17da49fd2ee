//! `kernels.cu` on the CPU, through `host.cpp`: its indices, barriers and arithmetic against the CPU kernels and the CPU loss.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::packed::Packed;
use super::program::Program;
use crate::{CpuPath, Exact, Features, Lattice, LossForm, Oriented, PairwiseKernel, Quality, View, crf_loss};

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda");

/// A program for the CPU, built with these flags.
struct Built {
    program: Program,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// Whether there is a C++20 compiler whose programs run with these flags; it says so where there is none.
fn works(flags: &[&str]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe");
    let mut command = Command::new(compiler());
    command.args(["-std=c++20", "-pthread", "-x", "c++", "-"]).args(flags).arg("-o").arg(&path);
    let source = b"#include <barrier>\nint main() { std::barrier<> b(1); b.arrive_and_wait(); }\n";
    let built = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().is_ok_and(|mut child| {
        let told = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(source).is_ok());
        told && child.wait().is_ok_and(|status| status.success())
    });
    let runs = built && Command::new(&path).output().is_ok_and(|output| output.status.success());
    if !runs {
        // Not `eprintln!`, which a test keeps to itself when it passes.
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "!! NOT CHECKED: no C++20 compiler here whose programs run with {flags:?}");
    }
    runs
}

fn build(program: Program, flags: &[&str]) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernels");
    let output = Command::new(compiler())
        .args(["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"])
        .args([
            "-Wno-unused-function",
            "-Wno-unused-parameter",
            "-Wno-unused-variable",
            "-Wno-unused-but-set-variable",
            "-pthread",
        ])
        .args(program.defines().iter().map(|define| format!("-D{define}")))
        .args(flags)
        .arg(format!("{SOURCES}/host.cpp"))
        .arg("-o")
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    Built { program, path, _folder: folder }
}

/// A batch, its images of one size.
struct Batch {
    /// Of the tensor.
    height: usize,
    width: usize,
    images: Vec<(Packed, View)>,
    values: Vec<f32>,
    roi: Vec<f32>,
    gate: Vec<f32>,
}

/// What was written for each plane, and the loss if there is one.
fn run(built: &Built, batch: &Batch, threads: usize, shared: bool) -> (Vec<f32>, Option<f32>) {
    let pixels = batch.height * batch.width;
    let blocks = built.program.blocks(pixels);
    let share = 1.0f32 / batch.images.len() as f32;
    let mut input: Vec<u32> =
        [batch.images.len(), batch.height, batch.width, threads, blocks, usize::from(shared)]
            .map(|v| v as u32)
            .into();
    input.push(share.to_bits());
    for (packed, view) in &batch.images {
        let room = packed.room * built.program.channels();
        input.extend([view.bits(), room as u32, packed.words.len() as u32]);
        input.extend(&packed.words);
    }
    for plane in [&batch.values, &batch.roi, &batch.gate] {
        input.extend(plane.iter().map(|v| v.to_bits()));
    }
    let mut child = Command::new(&built.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes: Vec<u8> = input.iter().flat_map(|w| w.to_le_bytes()).collect();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}: {}", built.program, String::from_utf8_lossy(&output.stderr));
    writer.join().unwrap().unwrap();
    let mut out: Vec<f32> =
        output.stdout.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let loss = (built.program.classes > 0).then(|| out.pop().unwrap());
    assert_eq!(out.len(), batch.values.len());
    (out, loss)
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0.0..1.0)).collect()
}

/// Stripes and a little noise: some vertices have hundreds of pixels, some one.
fn features([height, width]: [usize; 2], channels: usize, seed: u64) -> Features {
    let n = height * width;
    let noise = random(n * channels, seed);
    let image: Vec<f32> = noise
        .iter()
        .enumerate()
        .map(|(i, v)| if i % width < width / 3 { 40.0 } else { 170.0 } + 25.0 * v)
        .collect();
    Features::bilateral(&image, height, width, [1.0, 1.0], 100.0, 15.0).unwrap()
}

fn lattice(features: &Features, quality: Quality) -> Lattice {
    Lattice::build_with(features, quality, CpuPath::detect().unwrap()).unwrap()
}

fn close(found: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let size = expected.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let off =
        found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt();
    assert!(off <= tolerance * size.max(1e-9), "{what}: off by {off} of {size}");
}

const SHAPES: [[usize; 2]; 4] = [[21, 34], [1, 40], [40, 1], [1, 1]];

#[test]
fn the_lattice_filter_is_the_one_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    for channels in [1, 5] {
        let built = build(Program::filter(channels), &[]);
        for (quality, image_channels) in [(Quality::Standard, 3), (Quality::Standard, 8), (Quality::High, 1)]
        {
            for [height, width] in SHAPES {
                let n = height * width;
                let lattices =
                    [1, 2].map(|seed| lattice(&features([height, width], image_channels, seed), quality));
                let values = random(2 * channels * n, 5);
                let mut expected = vec![0.0; values.len()];
                for (i, lattice) in lattices.iter().enumerate() {
                    let part = i * channels * n..(i + 1) * channels * n;
                    lattice.filter(channels, &values[part.clone()], &mut expected[part]).unwrap();
                }
                let images =
                    lattices.iter().map(|l| (Packed::lattice(l).unwrap(), View::default())).collect();
                let batch = Batch { height, width, images, values, roi: vec![], gate: vec![] };
                let one = run(&built, &batch, 8, true).0;
                close(&one, &expected, 1e-5, "shared");
                // The same bits from global memory, and with another number of threads.
                assert_eq!(one, run(&built, &batch, 8, false).0);
                assert_eq!(one, run(&built, &batch, 3, true).0);
            }
        }
    }
}

#[test]
fn a_view_is_shown_where_the_cpu_shows_it() {
    if !works(&[]) {
        return;
    }
    let (height, width) = (9, 14);
    let features = features([height, width], 3, 4);
    let kernel: Arc<dyn PairwiseKernel> = Arc::new(lattice(&features, Quality::Standard));
    let (on_lattice, by_definition) =
        (build(Program::filter(2), &[]), build(Program::filter(2).exact(5), &[]));
    let values = random(2 * height * width, 6);
    for view in View::ALL {
        let (h, w) = if view.transpose { (width, height) } else { (height, width) };
        let batch = |packed| Batch {
            height: h,
            width: w,
            images: vec![(packed, view)],
            values: values.clone(),
            roi: vec![],
            gate: vec![],
        };
        let expected = |kernel| {
            let mut out = vec![0.0; values.len()];
            Oriented::new(kernel, view, height, width).unwrap().filter(2, &values, &mut out).unwrap();
            out
        };
        let packed = Packed::lattice(&lattice(&features, Quality::Standard)).unwrap();
        close(&run(&on_lattice, &batch(packed), 4, true).0, &expected(kernel.clone()), 1e-5, "lattice");
        let exact: Arc<dyn PairwiseKernel> = Arc::new(Exact::build(features.clone()).unwrap());
        let packed = Packed::exact(&features, None).unwrap();
        close(&run(&by_definition, &batch(packed), 256, true).0, &expected(exact), 1e-4, "exact");
    }
}

/// Loss and gradient of a batch of two against `crf_loss`.
fn check_loss(
    built: &Built,
    form: LossForm,
    shape: [usize; 2],
    kernels: &[Arc<dyn PairwiseKernel>],
    images: Vec<Packed>,
    threads: usize,
) {
    let program = built.program;
    let ([height, width], k) = (shape, program.classes);
    let (n, b) = (height * width, images.len());
    let values = random(b * k * n, 11);
    let weights = |on: bool, seed| if on { random(b * n, seed) } else { Vec::new() };
    let (roi, gate) = (weights(program.roi, 12), weights(program.gate, 13));
    let tensor = |v: &[f32]| Tensor::from_slice(v, (b, height, width), &Device::Cpu).unwrap();
    let y =
        Var::from_tensor(&Tensor::from_slice(&values, (b, k, height, width), &Device::Cpu).unwrap()).unwrap();
    let expected = crf_loss(
        &y,
        kernels,
        form,
        program.roi.then(|| tensor(&roi)).as_ref(),
        program.gate.then(|| tensor(&gate)).as_ref(),
    )
    .unwrap();
    let gradient: Vec<f32> =
        expected.backward().unwrap().get(&y).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let expected = expected.to_scalar::<f32>().unwrap();
    let images = images.into_iter().map(|packed| (packed, View::default())).collect();
    let batch = Batch { height, width, images, values, roi, gate };
    let (found, loss) = run(built, &batch, threads, true);
    close(&found, &gradient, 1e-4, &format!("gradient, {program:?}"));
    close(&[loss.unwrap()], &[expected], 1e-4, &format!("loss, {program:?}"));
    let again = run(built, &batch, threads, true);
    assert_eq!((again.0, again.1.map(f32::to_bits)), (found, loss.map(f32::to_bits)));
}

/// Two images' kernels on the CPU, and the same packed.
type Pair = ([Arc<dyn PairwiseKernel>; 2], Vec<Packed>);

fn pair_on_lattice(shape: [usize; 2], channels: usize) -> Pair {
    let lattices = [3, 4].map(|seed| lattice(&features(shape, channels, seed), Quality::Standard));
    let packed = lattices.iter().map(|l| Packed::lattice(l).unwrap()).collect();
    (lattices.map(|l| Arc::new(l) as _), packed)
}

fn pair_by_definition(shape: [usize; 2], channels: usize) -> Pair {
    let f = [3, 4].map(|seed| features(shape, channels, seed));
    let exact = f.clone().map(|f| Exact::build(f).unwrap());
    let packed = f.iter().zip(&exact).map(|(f, e)| Packed::exact(f, Some(e.mass())).unwrap()).collect();
    (exact.map(|e| Arc::new(e) as _), packed)
}

/// Every combination for two classes, and all at once for more.
fn losses() -> impl Iterator<Item = (usize, bool, bool, LossForm)> {
    let forms = [LossForm::NonNegative, LossForm::ConstantFree];
    let two = [false, true].into_iter().flat_map(move |roi| {
        [false, true].into_iter().flat_map(move |gate| forms.map(|form| (2, roi, gate, form)))
    });
    two.chain((3..=5).map(|k| (k, true, true, LossForm::NonNegative)))
}

#[test]
fn loss_and_gradient_on_the_lattice_are_those_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    for (k, roi, gate, form) in losses() {
        let built = build(Program::loss(k, roi, gate, form), &[]);
        for shape in [[13, 18], [1, 1]] {
            let (kernels, packed) = pair_on_lattice(shape, 3);
            check_loss(&built, form, shape, &kernels, packed, 8);
        }
    }
}

#[test]
fn loss_and_gradient_by_definition_are_those_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    for (k, roi, gate, form, channels) in [
        (2, false, false, LossForm::NonNegative, 3),
        (2, true, true, LossForm::NonNegative, 1),
        (5, true, true, LossForm::ConstantFree, 5),
    ] {
        let built = build(Program::loss(k, roi, gate, form).exact(channels + 2), &[]);
        // More pixels than a block sums for, and fewer than a tile.
        for shape in [[33, 34], [3, 5]] {
            let (kernels, packed) = pair_by_definition(shape, channels);
            check_loss(&built, form, shape, &kernels, packed, 256);
        }
    }
}

#[test]
fn by_definition_neighbours_far_from_the_rest_keep_their_weight() {
    if !works(&[]) {
        return;
    }
    let built = build(Program::filter(1).exact(1), &[]);
    for far in [20.0f32, 1e4, 1e6, 3e38] {
        let features = Features::new(vec![0.0, 0.5, far, far], 1).unwrap();
        let values = vec![1.0, 0.0, 0.0, 1.0];
        let mut expected = vec![0.0; 4];
        Exact::build(features.clone()).unwrap().filter(1, &values, &mut expected).unwrap();
        let images = vec![(Packed::exact(&features, None).unwrap(), View::default())];
        let batch = Batch { height: 1, width: 4, images, values, roi: vec![], gate: vec![] };
        close(&run(&built, &batch, 256, true).0, &expected, 1e-4, &format!("{far}"));
    }
}

/// A barrier that is missing, an index that is off.
#[test]
fn sanitizers_find_nothing() {
    for flags in [&["-fsanitize=thread"][..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]]
    {
        if !works(flags) {
            continue;
        }
        let (shape, form) = ([11, 17], LossForm::NonNegative);
        let built = build(Program::loss(3, true, true, form), flags);
        let (kernels, packed) = pair_on_lattice(shape, 3);
        check_loss(&built, form, shape, &kernels, packed, 4);
        let built = build(Program::loss(2, false, false, form).exact(5), flags);
        let (kernels, packed) = pair_by_definition(shape, 3);
        check_loss(&built, form, shape, &kernels, packed, 256);
    }
}
