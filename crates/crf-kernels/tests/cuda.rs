//! A CUDA device against the CPU, where there is a device; where there is none, the tests say so and check nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use std::io::Write;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_crf_kernels::{
    Batch, CpuPath, Cuda, Error, Exact, Features, Lattice, LossForm, Oriented, PairwiseKernel, Quality,
    Resident, Shown, View, crf_loss,
};

/// Not `eprintln!`, which a test keeps to itself when it passes.
fn not_checked(error: &Error) {
    let _ = writeln!(std::io::stderr(), "!! NOT CHECKED on a CUDA device: {error}");
}

fn device() -> Option<Arc<Cuda>> {
    Cuda::new(0).inspect_err(not_checked).ok()
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0.0..1.0)).collect()
}

/// Stripes with noise of this strength: at 255 every pixel has vertices of its own, and the lattice leaves shared memory.
fn features([height, width]: [usize; 2], channels: usize, noise: f32, seed: u64) -> Features {
    let image: Vec<f32> = random(height * width * channels, seed)
        .iter()
        .enumerate()
        .map(|(i, v)| if i % width < width / 3 { 40.0 } else { 170.0 } + noise * v)
        .collect();
    Features::bilateral(&image, height, width, [1.0, 1.0], 100.0, 15.0).unwrap()
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>();
    let off = square(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (off / square(&mut expected.iter().map(|v| f64::from(*v)))).sqrt()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Lattice(Quality),
    Exact,
}

/// One kernel on the CPU and the same on the device.
fn pair(cuda: &Arc<Cuda>, kind: Kind, f: &Features) -> (Arc<dyn PairwiseKernel>, Resident) {
    match kind {
        Kind::Lattice(quality) => {
            let lattice = Lattice::build_with(f, quality, CpuPath::detect().unwrap()).unwrap();
            let resident = Resident::lattice(cuda, &lattice).unwrap();
            (Arc::new(lattice), resident)
        }
        Kind::Exact => (Arc::new(Exact::build(f.clone()).unwrap()), Resident::exact(cuda, f).unwrap()),
    }
}

const KINDS: [Kind; 3] = [Kind::Lattice(Quality::Standard), Kind::Lattice(Quality::High), Kind::Exact];

#[test]
fn cuda_agrees_with_the_cpu_and_repeats_to_the_bit() {
    let Some(cuda) = device() else { return };
    let [height, width] = [37, 52];
    let (n, views) = (height * width, [View::ALL[0], View::ALL[3], View::ALL[1]]);
    for (kind, noise) in KINDS.into_iter().flat_map(|kind| [(kind, 25.0), (kind, 255.0)]) {
        let pairs: Vec<_> =
            (0..3).map(|seed| pair(&cuda, kind, &features([height, width], 3, noise, seed))).collect();
        let shown: Vec<Arc<dyn PairwiseKernel>> = pairs
            .iter()
            .zip(views)
            .map(|((kernel, _), view)| {
                Arc::new(Oriented::new(kernel.clone(), view, height, width).unwrap())
                    as Arc<dyn PairwiseKernel>
            })
            .collect();
        let images = pairs
            .iter()
            .zip(views)
            .map(|((_, kernel), view)| Shown { kernel, view, shape: Some([height, width]) })
            .collect();
        let batch = Batch::new(images, height, width).unwrap();
        for (k, roi, gate, form) in [
            (2, false, false, LossForm::NonNegative),
            (2, true, false, LossForm::ConstantFree),
            (3, false, true, LossForm::NonNegative),
            (5, true, true, LossForm::NonNegative),
        ] {
            let values = random(3 * k * n, 5);
            let weights = |on: bool, seed| on.then(|| random(3 * n, seed));
            let (roi, gate) = (weights(roi, 6), weights(gate, 7));
            let tensor = |v: &Vec<f32>| Tensor::from_slice(v, (3, height, width), &Device::Cpu).unwrap();
            let y = Tensor::from_slice(&values, (3, k, height, width), &Device::Cpu).unwrap();
            let y = Var::from_tensor(&y).unwrap();
            let (roi_tensor, gate_tensor) = (roi.as_ref().map(tensor), gate.as_ref().map(tensor));
            let expected = crf_loss(&y, &shown, form, roi_tensor.as_ref(), gate_tensor.as_ref()).unwrap();
            let gradient: Vec<f32> =
                expected.backward().unwrap().get(&y).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let stream = cuda.stream();
            let values = stream.clone_htod(&values).unwrap();
            let [roi, gate] = [roi, gate].map(|v| v.map(|v| stream.clone_htod(&v).unwrap()));
            let (roi, gate) = (roi.as_ref().map(|v| v.as_view()), gate.as_ref().map(|v| v.as_view()));
            let run = || {
                let result = batch.loss(&values.as_view(), k, form, roi.as_ref(), gate.as_ref()).unwrap();
                let loss = stream.clone_dtoh(&result.loss).unwrap();
                (loss, stream.clone_dtoh(&result.gradient).unwrap())
            };
            let found = run();
            let what = format!("{kind:?}, noise {noise}, K = {k}");
            assert!(relative(&found.0, &[expected.to_scalar().unwrap()]) < 1e-4, "{what}");
            assert!(relative(&found.1, &gradient) < 1e-4, "{what}");
            assert_eq!(found, run(), "{what}");
        }
    }
}

#[test]
fn cuda_refuses_what_does_not_fit() {
    let Some(cuda) = device() else { return };
    let f = features([8, 9], 3, 25.0, 1);
    let (_, lattice) = pair(&cuda, KINDS[0], &f);
    let (_, exact) = pair(&cuda, Kind::Exact, &f);
    assert!(matches!(Batch::new(vec![], 8, 9), Err(Error::Length { .. })));
    assert!(matches!(Batch::new(vec![(&lattice).into()], 8, 8), Err(Error::Length { .. })));
    assert!(matches!(Batch::new(vec![(&lattice).into(), (&exact).into()], 8, 9), Err(Error::Cuda { .. })));
    let batch = Batch::new(vec![(&lattice).into()], 8, 9).unwrap();
    let values = cuda.stream().clone_htod(&random(2 * 72, 1)).unwrap();
    let few = values.as_view();
    let form = LossForm::NonNegative;
    assert!(matches!(batch.loss(&few, 3, form, None, None), Err(Error::Length { .. })));
    assert!(matches!(batch.loss(&few, 2, form, Some(&few), None), Err(Error::Length { .. })));
    assert!(batch.loss(&few, 2, form, None, None).is_ok());
    let elsewhere = cuda.stream().context().new_stream().unwrap().clone_htod(&random(2 * 72, 1)).unwrap();
    assert!(matches!(batch.loss(&elsewhere.as_view(), 2, form, None, None), Err(Error::Cuda { .. })));
    let many = cuda.stream().clone_htod(&random(40 * 72, 1)).unwrap();
    assert!(matches!(batch.loss(&many.as_view(), 40, form, None, None), Err(Error::Length { .. })));
    let turned = Shown { shape: Some([9, 8]), ..(&lattice).into() };
    assert!(matches!(Batch::new(vec![turned], 8, 9), Err(Error::Length { .. })));
}

/// The operator on candle's own tensors and stream, forward and backward.
#[cfg(feature = "candle-cuda")]
#[test]
fn cuda_tensors_of_candle_agree_with_the_cpu() {
    let device = match Device::new_cuda_with_stream(0) {
        Ok(device) => device,
        Err(error) => {
            return writeln!(std::io::stderr(), "!! NOT CHECKED on a CUDA device: {error}").unwrap();
        }
    };
    let cuda = Cuda::on_stream(device.as_cuda_device().unwrap().cuda_stream()).unwrap();
    let ([height, width], k) = ([19, 26], 3);
    let pairs: Vec<_> =
        (0..2).map(|seed| pair(&cuda, KINDS[0], &features([height, width], 3, 25.0, seed))).collect();
    let (here, there): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|(a, b)| (a, Arc::new(b) as Arc<dyn PairwiseKernel>)).unzip();
    let values = random(2 * k * height * width, 5);
    let (roi, gate) = (random(2 * height * width, 6), random(2 * height * width, 7));
    let run = |kernels: &[Arc<dyn PairwiseKernel>], device: &Device| {
        let tensor = |v: &[f32], shape: &[usize]| Tensor::from_slice(v, shape, device).unwrap();
        let y = Var::from_tensor(&tensor(&values, &[2, k, height, width])).unwrap();
        let [roi, gate] = [&roi, &gate].map(|v| tensor(v, &[2, height, width]));
        let loss = crf_loss(&y, kernels, LossForm::NonNegative, Some(&roi), Some(&gate)).unwrap();
        // Not 1, so that the backward pass has something to multiply with.
        let gradient = (&loss * 0.5).unwrap().backward().unwrap();
        let gradient = gradient.get(&y).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (loss.to_scalar::<f32>().unwrap(), gradient)
    };
    let (expected, found) = (run(&here, &Device::Cpu), run(&there, &device));
    assert!(relative(&[found.0], &[expected.0]) < 1e-4);
    assert!(relative(&found.1, &expected.1) < 1e-4);
}
