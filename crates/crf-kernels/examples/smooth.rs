//! Pulls a noisy probability map onto the edges of an image by gradient descent on the CRF loss.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use scribseg_crf_kernels::{Features, Lattice, LossForm, PairwiseKernel, crf_loss};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const SIDE: usize = 32;
    let inside = |p: usize| (p / SIDE).abs_diff(16).pow(2) + (p % SIDE).abs_diff(16).pow(2) < 81;
    let image: Vec<f32> = (0..SIDE * SIDE).map(|p| if inside(p) { 180.0 } else { 60.0 }).collect();
    let features = Features::bilateral(&image, SIDE, SIDE, [1.0, 1.0], 100.0, 15.0)?;
    let kernel: Arc<dyn PairwiseKernel> = Arc::new(Lattice::build(&features)?);
    // One pixel in three says the wrong thing.
    let belief = |p: usize| if inside(p) != (p * 7).is_multiple_of(3) { 0.7f32 } else { 0.3 };
    let tumour: Vec<f32> = (0..SIDE * SIDE).map(belief).collect();
    let both: Vec<f32> = tumour.iter().copied().chain(tumour.iter().map(|v| 1.0 - v)).collect();
    let y = Var::from_vec(both, (1, 2, SIDE, SIDE), &Device::Cpu)?;
    for step in 0..5 {
        let loss = crf_loss(&y, std::slice::from_ref(&kernel), LossForm::NonNegative, None, None)?;
        println!("step {step}: loss {:.0}", loss.to_scalar::<f32>()?);
        let gradient = loss.backward()?;
        let Some(g) = gradient.get(&y) else { break };
        // Only the difference between the classes matters to a softmax.
        let g = g.broadcast_sub(&g.mean_keepdim(1)?)?;
        let moved: Tensor = (y.as_tensor() - (g * 1e-3)?)?.clamp(0.0, 1.0)?;
        y.set(&moved)?;
    }
    let map: Vec<f32> = y.flatten_all()?.to_vec1()?;
    let right = (0..SIDE * SIDE).filter(|&p| (map[p] > 0.5) == inside(p)).count();
    println!("{right} of {} pixels right", SIDE * SIDE);
    Ok(())
}
